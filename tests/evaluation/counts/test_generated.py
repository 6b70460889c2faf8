"""Generated cells beside held-out ones: real cells pass, and wrong ones are told where."""

import numpy as np
import pytest
from scipy import sparse

from pgm_expr.evaluation.counts.generated import Labelled, judge_generated
from pgm_expr.simulate import simulate

N = 300


@pytest.fixture(scope="module")
def cells():
    adata = simulate(4 * N, 60, seed=0, types=3, median_library=2000.0).to_anndata()
    codes = adata.obs["type"].astype("category").cat.codes.to_numpy().astype(int)
    return sparse.csr_array(adata.X), codes


@pytest.fixture(scope="module")
def sides(cells):
    """As if drawn, held out, and of the fit: all real."""
    parts = np.split(np.arange(4 * N), [N, 2 * N])
    return [Labelled(cells[0][at], cells[1][at]) for at in parts]


def judged(drawn, sides):
    return judge_generated(drawn, *sides[1:], components=10)


def test_real_cells_are_at_the_floor(sides):
    found = judged(sides[0], sides)
    assert abs(found["auc"] - 0.5) < 0.08 and abs(found["auc_floor"] - 0.5) < 0.08
    for name in ("mean", "variance", "zero", "total_variance", "de"):
        assert abs(found[name] - 1) < 0.1 and abs(found[f"{name}_floor"] - 1) < 0.1, name
    assert abs(found["correlation"] - found["correlation_floor"]) < 0.06
    assert abs(found["f1"] - found["f1_floor"]) < 0.1
    assert abs(found["nearest"] - 1) < 0.1


def test_labels_that_mean_nothing_are_seen_by_their_differences_alone(sides):
    mixed = np.random.default_rng(0).permutation(sides[0].labels)
    found = judged(Labelled(sides[0].counts, mixed), sides)
    assert abs(found["de"]) < 0.25 and found["f1"] < found["f1_floor"] - 0.2
    assert abs(found["auc"] - 0.5) < 0.08


def test_genes_drawn_by_themselves_lose_their_correlations(sides):
    rng = np.random.default_rng(0)
    apart = np.stack([rng.permutation(column) for column in sides[0].counts.toarray().T], 1)
    found = judged(Labelled(sparse.csr_array(apart), sides[0].labels), sides)
    assert found["correlation"] < 0.2 < found["correlation_floor"]
    assert found["auc"] > 0.7 and abs(found["mean"] - 1) < 0.1


def test_means_drawn_for_cells_lack_variance(sides):
    flat = np.stack([sides[0].counts[sides[0].labels == y].mean(0) for y in range(3)])
    found = judged(Labelled(sparse.csr_array(flat[sides[0].labels]), sides[0].labels), sides)
    assert found["total_variance"] < 0.6 and found["auc"] > 0.95


def test_cells_of_the_fit_given_back_are_near(cells, sides):
    found = judged(Labelled(sides[2].counts[:N], sides[2].labels[:N]), sides)
    assert found["nearest"] < 0.9


def test_one_label_has_no_differences(sides):
    one = [Labelled(side.counts, np.zeros(len(side.labels), int)) for side in sides]
    found = judged(one[0], one)
    assert np.isnan(found["de"]) and np.isnan(found["f1"])
