"""Counterfactuals: truth within intervals, refusals and warnings, what is recorded."""

import numpy as np
import pytest

import pgm_expr
from pgm_expr.simulate import simulate

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")

SET = {"condition": "condition1"}
SIZES = dict(latent=4, hidden=32, epochs=60, learning_rate=5e-3, progress=False)
CELLS = 600


def world(confounding, labels="type", **options):
    truth = simulate(CELLS, 80, seed=0, conditions=2, confounding=confounding, **options)
    adata = truth.to_anndata()
    return truth, adata, pgm_expr.fit(adata, batch_key="condition", labels_key=labels, **FIT)


FIT = SIZES | dict(story="cvae")


@pytest.fixture(scope="module")
def confounded():
    return world(0.5)


@pytest.fixture(scope="module")
def unlabelled():
    return world(0.5, labels=None)


@pytest.fixture(params=["confounded", "unlabelled"])
def either(request):
    return request.getfixturevalue(request.param)


def test_intervals_hold_the_truth_in_most_genes(either):
    truth, adata, run = either
    found = run.counterfactual(adata, condition=SET)
    same = {"library": 1.0}
    true = truth.log_fold_change({"condition": 1, **same}, same) / np.log(2)
    low, high = found.interval()[:, 0]
    assert ((low <= true) & (true <= high)).mean() > 0.85  # 80 genes with errors in common
    error = {name: np.abs(values[0] - true).mean() for name, values in found.rivals.items()}
    assert np.abs(found.mean[0] - true).mean() < min(error["unchanged"], error["mean_shift"])


def test_a_frame_and_an_anndata_say_where_they_come_from(confounded):
    _, adata, run = confounded
    found = run.counterfactual(adata, condition=SET, groupby="type", draws=50)
    assert found.draws.shape == (50, 4, 80) and found.n.sum() == CELLS
    table, cells = found.to_frame(), found.to_anndata()
    assert table.shape == (4 * 80, 9) and cells.shape == (4, 80)
    assert (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
    for record in (table.attrs["pgm_expr"], cells.uns["pgm_expr"]):
        assert record["story"] == "cvae" and record["n"] == CELLS
        assert record["seeds"] == {"draws": 0} and record["split"]["train"] > 0
        assert record["baseline"] == "unchanged, mean_shift, story"
        assert record["support"]["verdict"] == "good"
    again = run.counterfactual(adata, condition=SET, groupby="type", draws=50)
    assert np.array_equal(found.draws, again.draws)


def test_cells_of_the_condition_do_not_change(confounded):
    truth, adata, run = confounded
    there = adata[truth.condition == 1].copy()
    assert (run.counterfactual(there, condition=SET).draws == 0).all()


def test_new_cells_count_as_observed(confounded):
    truth, adata, run = confounded
    few = adata[:300].copy()
    few.obs_names = [f"new{name}" for name in few.obs_names]
    known, more = (run.counterfactual(each, condition=SET) for each in (adata[:300], few))
    assert more.sd.mean() < known.sd.mean()


@pytest.mark.filterwarnings("error")
def test_full_confounding_is_refused_with_and_without_labels():
    for labels, words in (("type", "no cells of it are near"), (None, "states cannot be separ")):
        _, adata, run = world(1.0, labels)
        with pytest.raises(ValueError, match=words) as error:
            run.counterfactual(adata, condition=SET)
        assert "\n" not in str(error.value) and "condition=condition1" in str(error.value)
        with pytest.warns(UserWarning, match="without support"):
            found = run.express(adata, condition=SET)
        assert found.uns["pgm_cvae"]["support"]["verdict"] == "none"


def test_strata_without_the_condition_are_left_out(confounded):
    truth, adata, run = confounded
    kept = ~((truth.type == 0) & (truth.condition == 1))
    part = adata[kept].copy()
    with pytest.warns(UserWarning, match="partial support"):
        found = run.counterfactual(part, condition=SET, groupby="type", strata="type")
    assert np.isnan(found.mean[0]).all() and np.isfinite(found.mean[1:]).all()
    assert found.n[0] == 0 and found.support.share < 0.95


def test_a_rare_condition_says_from_how_many_cells_it_learnt():
    truth = simulate(300, 40, seed=0, types=2, latent=1)
    adata = truth.to_anndata()
    adata.obs["stim"] = np.where(np.arange(300) < 8, "yes", "no")
    run = pgm_expr.fit(adata, "cvae", batch_key="stim", **SIZES | dict(epochs=3))
    number = int((adata.obs["stim"].to_numpy()[run.table.split.train] == "yes").sum())
    text = f"learnt from {number} training cells"
    with pytest.warns(UserWarning, match=text):
        drawn = run.sample(5, condition={"stim": "yes"})
    assert drawn.uns["pgm_cvae"]["support"]["training_cells"] == number
    with pytest.warns(UserWarning, match=text):
        run.learn("flow", steps=2, progress=False).generate(
            3, by="flow", condition={"stim": "yes"}
        )
    with pytest.warns(UserWarning, match="learnt from"):
        run.express(adata, condition={"stim": "yes"})
    assert "support" not in run.sample(5).uns["pgm_cvae"]


REFUSED = {
    "condition is empty": dict(condition={}),
    "groupby: obs has no column 'tpye'": dict(condition=SET, groupby="tpye"),
    "strata: obs has no column 'tpye'": dict(condition=SET, strata="tpye"),
    "did not use obs column 'type0'": dict(condition={"type0": "a"}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_arguments_are_one_line(words, confounded):
    _, adata, run = confounded
    with pytest.raises(ValueError, match=words):
        run.counterfactual(adata, **REFUSED[words])
