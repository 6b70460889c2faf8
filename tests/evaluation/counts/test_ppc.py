"""Checks of drawn counts: the right story passes beside its floor, four wrong ones don't."""

import numpy as np
import pytest
import torch
from scipy import sparse

from pgm_expr.evaluation.counts import ppc
from pgm_expr.evaluation.counts.ppc import exchange_check, predictive_check

CELLS, GENES = 300, 80
MEANS = np.logspace(-0.5, 1.5, GENES)


def real(cells, seed, theta=2.0, gate=0.0, mode=0.0, shared=0.3):
    """NB counts whose genes move together; some genes are on in half of the cells."""
    rng = np.random.default_rng(seed)
    together = np.exp(shared * rng.normal(size=(cells, 1)) * np.where(np.arange(GENES) % 2, 1, -1))
    on = np.where(rng.random((cells, GENES)) < 0.5, 1 + mode, 1 - mode)
    rate = MEANS * together * on * rng.gamma(theta, 1 / theta, (cells, GENES))
    return rng.poisson(rate) * (rng.random((cells, GENES)) >= gate)


def checked(**wrong):
    """Draws of a story that is right but for `wrong`."""
    seeds = iter(range(100, 200))

    def draw():
        x = torch.as_tensor(real(CELLS, next(seeds), **wrong), dtype=torch.float32)
        return x.split(64)

    held_out, reference = (sparse.csr_array(real(n, s)) for n, s in ((CELLS, 0), (1200, 1)))
    found = predictive_check(draw, held_out, reference)
    return found, {row["check"]: row for row in found.rows()}


def test_the_right_story_is_at_the_floor():
    found, rows = checked()
    assert set(rows) == {*ppc.BY_GENE, "correlation"}
    for row in rows.values():
        assert row["drawn"] < 1.15 * row["floor"] + 0.005
        assert row.get("extreme", 0) < 0.12  # of 80 genes, .05 expected


@pytest.mark.parametrize(
    "wrong, check",
    [
        (dict(theta=50.0), "dispersion"),
        (dict(theta=50.0), "variance"),
        (dict(theta=50.0), "tail"),
        (dict(gate=0.3), "zero rate"),
        (dict(gate=0.3), "mean"),
        (dict(mode=0.9), "bimodality"),
        (dict(shared=0.0), "correlation"),
    ],
    ids=str,
)
def test_wrong_stories_are_told(wrong, check):
    found, rows = checked(**wrong)
    row = rows[check]
    assert row["drawn"] > 1.25 * row["floor"]
    assert row.get("extreme", 1) > 0.15


def checked_once(held_out, drawn):
    """A single replicate, which is these draws; the floor is the held-out cells themselves."""
    sides = (sparse.csr_array(held_out), sparse.csr_array(held_out))
    draws = [torch.as_tensor(drawn, dtype=torch.float32)]
    return predictive_check(lambda: draws, *sides, replicates=1)


def correlations(x):
    log = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    return np.corrcoef(log.T)[np.triu_indices(x.shape[1], 1)]


def test_statistics_are_those_of_dense_counts():
    x, other = real(CELLS, 5), real(CELLS, 6)
    x[:, 3] = other[:, 3] = 0
    x[0, 3] = 49  # too few counts to be looked at
    found, rest = checked_once(x, other), np.arange(GENES) != 3
    for found_of, some in ((found.real, x), (found.drawn, other)):
        some = some[:, rest].astype(float)
        assert np.allclose(found_of["mean"], some.mean(0))
        assert np.allclose(found_of["variance"], some.var(0, ddof=1))
        assert np.allclose(found_of["dispersion"], some.var(0, ddof=1) / some.mean(0))
        assert np.allclose(found_of["zero rate"], (some == 0).mean(0))
        assert np.allclose(found_of["tail"], np.sort(some, 0)[-3:].mean(0))


def test_correlations_are_those_of_dense_counts():
    x, other = real(CELLS, 5), real(CELLS, 6, shared=0.1)
    expected = np.corrcoef(correlations(x), correlations(other))[0, 1]
    assert checked_once(x, other).correlation == pytest.approx((expected, 1.0), abs=1e-5)


def test_bimodality_of_known_shapes():
    """Two points at equal odds give 1, and two in the middle of three less; all are finite."""
    two = np.repeat([[0], [7]], 50, 0)
    three = np.repeat([[0], [3], [3], [7]], 25, 0)
    never = np.full_like(two, 4)
    found = checked_once(np.hstack([two, three, never]), np.hstack([two, three, never]))
    values = found.real["bimodality"]
    assert values[0] == pytest.approx(1.0) and values[1] < 0.8 and np.isfinite(values[2])


def test_a_gene_that_is_never_drawn_counts_against_the_story():
    held_out, reference = (sparse.csr_array(real(n, s)) for n, s in ((100, 0), (300, 1)))
    found = predictive_check(lambda: [torch.ones(100, GENES)], held_out, reference, replicates=3)
    assert all(np.isfinite(row["drawn"]) for row in found.rows())


def test_too_few_cells_of_the_fit_are_said():
    held_out, reference = (sparse.csr_array(real(n, 0)) for n in (50, 20))
    with pytest.raises(ValueError, match="needs 50 cells of the fit: got 20"):
        predictive_check(lambda: [], held_out, reference)


def test_too_few_counts_are_said():
    empty = sparse.csr_array((60, GENES), dtype=float)
    with pytest.raises(ValueError, match="0 genes have 50 held-out counts"):
        predictive_check(lambda: [], empty, empty)


class TestExchanged:
    """The test against replicates, whose null distribution is the replicates' own."""

    def versions(self, seed, **wrong):
        rest = [sparse.csr_array(real(CELLS, 10 * seed + i)) for i in range(1, 5)]
        return [sparse.csr_array(real(CELLS, 10 * seed, **wrong)), *rest]

    def test_cells_like_their_replicates_pass(self):
        """The least p of 7 checks is at most .1 in 2 of 20 data sets, and in 6 once in 100."""
        least = [
            min(row["p"] for row in exchange_check(self.versions(s), sets=50)) for s in range(20)
        ]
        assert np.mean(np.array(least) <= 0.1) < 0.3
        assert np.mean(np.array(least) <= 0.5) < 0.85

    @pytest.mark.parametrize(
        ("wrong", "check"),
        [(dict(theta=0.7), "dispersion"), (dict(gate=0.3), "zero rate")],
        ids=str,
    )
    def test_cells_unlike_them_do_not(self, wrong, check):
        rows = {row["check"]: row for row in exchange_check(self.versions(0, **wrong))}
        assert rows[check]["p"] <= 0.02 and rows[check]["error"] > 1.5 * rows[check]["expected"]

    def test_too_few_counts_are_said(self):
        empty = sparse.csr_array((60, GENES), dtype=float)
        with pytest.raises(ValueError, match="0 genes have 50 counts"):
            exchange_check([empty] * 3)
