"""Replicates of cells: their totals are spread like those of cells, and their p-values hold."""

import numpy as np
import pytest
import torch
from scipy import stats

from pgm_expr.evaluation.counts import replicates
from pgm_expr.evaluation.counts.replicates import (
    exchanged,
    exchanged_means,
    prior_replicates,
)
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.predict import draw_prior

GENES, CELLS, VERSIONS = 30, 60, 5


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    sizes = dict(genes=GENES, latent=2, hidden=8)
    return VAE(**sizes), VAEGuide(**sizes)


def drawn_cells(model, number, sd=0.4, seed=1):
    """Cells of the model, whose library is the total of their counts."""
    torch.manual_seed(seed)
    library = torch.exp(6 + sd * torch.randn(number, 1))
    x = draw_prior(model, [{"library": library}])
    return {"x": x, "library": x.sum(-1, keepdim=True)}


def log_totals(batches):
    return torch.cat([batch["library"] for batch in batches]).log()


@pytest.mark.parametrize("sd", [0.2, 0.5])
def test_totals_of_replicates_are_spread_like_those_of_the_cells(pair, sd):
    """4,000 cells: the standard deviation within 5% (4 of its standard errors); mean too."""
    cells = drawn_cells(pair[0], 4000, sd)
    real = cells["library"].log()
    for drawn in (replicates.replicates(*pair, [cells])[0], prior_replicates(pair[0], [cells])):
        found = log_totals(drawn)
        assert torch.equal(drawn[0]["x"].sum(-1, keepdim=True), drawn[0]["library"])
        assert (found.std() / real.std()).item() == pytest.approx(1, abs=0.05)
        assert (found.mean() - real.mean()).item() == pytest.approx(0, abs=0.03)


def test_without_the_correction_totals_would_be_too_wide(pair):
    """What the model draws at the totals of cells varies more than they do."""
    cells = drawn_cells(pair[0], 4000, 0.2)
    totals = draw_prior(pair[0], [cells]).sum(-1).clamp_min(1).log()
    assert totals.std() > 1.15 * cells["library"].log().std()


def test_a_library_that_is_no_total_stays(pair):
    cells = drawn_cells(pair[0], 50)
    for drawn in replicates.replicates(*pair, [cells], totals=False):
        assert torch.equal(drawn[0]["library"], cells["library"])


def test_a_drawn_cell_without_a_count_has_a_library(pair):
    cells = {"x": torch.eye(20, GENES), "library": torch.ones(20, 1)}
    for drawn in replicates.replicates(*pair, [cells]):
        assert (drawn[0]["library"] >= 1).all()


def test_replicates_leave_the_noise_of_the_caller(pair):
    cells = drawn_cells(pair[0], 20)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (replicates.replicates(*pair, [cells])[0][0]["x"] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)


def p_values(shift, repeats=200, figures=6):
    """The least p of several means of exchangeable skewed figures, the first one shifted."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        cell = rng.normal(size=(1, CELLS, 1))  # what versions of a cell share
        values = rng.gamma(0.3, size=(VERSIONS, CELLS, figures)) + cell
        values[0, :, 0] += shift
        found.append(exchanged_means(values, sets=100).p.min())
    return np.array(found)


def test_p_of_the_worst_of_several_figures_holds_for_exchangeable_cells():
    """At 5 and 20%, within 3 binomial deviations of 200 repeats."""
    p = p_values(0.0)
    for level in (0.05, 0.2):
        assert (p <= level).mean() < level + 3 * (level * (1 - level) / 200) ** 0.5
    assert (p_values(0.6, repeats=50) <= 0.02).mean() > 0.8


def test_any_statistic_of_a_set_is_tested():
    """A variance, whose null distribution nobody wrote down: p is uniform, or small if wrong."""
    at, rng = np.arange(CELLS), np.random.default_rng(1)

    def p(scale):
        x = rng.standard_t(3, size=(VERSIONS, CELLS))
        x[0] *= scale
        return exchanged(
            lambda version: x[version, at].var(),
            lambda one, rest: np.array([one / np.mean(rest)]),
            versions=VERSIONS,
            cells=CELLS,
            sets=50,
        ).p[0]

    right = [p(1.0) for _ in range(200)]
    assert stats.kstest(right, "uniform").pvalue > 1e-3
    assert np.mean([p(4.0) for _ in range(30)]) < 0.1


def test_figures_that_not_every_cell_has_are_means_of_those_that_do():
    values = np.arange(24.0).reshape(3, 4, 2)
    values[:, :2, 1] = np.nan
    found = exchanged_means(values, sets=30)
    assert found.value.tolist() == [3.0, 6.0]
    assert found.expected.tolist() == [15.0, 18.0]
