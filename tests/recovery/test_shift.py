"""Slow: effects of perturbations found again, alone, together, and where there are none."""

import dataclasses

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pgm_expr
from pgm_expr import Story, simulate
from pgm_expr.evaluation import iwae, standard_error
from pgm_expr.guides import ShiftGuide
from pgm_expr.inference import latent_use
from pgm_expr.models import Shift
from pgm_expr.models import shift as page

pytestmark = pytest.mark.slow

SINGLES, NULL = range(5), 5  # the last of six perturbations does nothing
SEEN, HELD_OUT = [(0, 1), (2, 3)], [(0, 2), (1, 3), (1, 4)]
NONE = np.zeros(6)


@pytest.fixture(scope="module")
def truth():
    """Two types in four directions; effects of half of the genes, which add up."""
    full = simulate.simulate(
        1500,
        150,
        seed=0,
        latent=4,
        types=2,
        perturbations=6,
        combinations=SEEN,
        held_out=HELD_OUT,
        median_library=2000.0,
    )
    effects = np.where(np.arange(6)[:, None] == NULL, 0.0, full.perturbation_effect)
    truth = dataclasses.replace(full, perturbation_effect=effects)
    return dataclasses.replace(truth, x=truth.draw(100))


def fit(truth, story):
    return pgm_expr.fit(
        truth.to_anndata(),
        story,
        perturbation_key="perturbation",
        control="control",
        latent=20,
        hidden=64,
        epochs=250,
        progress=False,
    )


@pytest.fixture(scope="module")
def run(truth):
    return fit(truth, "shift")


@pytest.fixture(scope="module")
def fold_changes(truth, run):
    """Predicted and true log fold changes of the control cells, by perturbations received."""
    control = np.flatnonzero(~truth.perturbation.any(1))
    batch = run.table.cells.rows(control)
    z = latent_use(run.bound(), [batch]).loc

    @torch.no_grad()
    def total(row):
        moved = z + torch.tensor(row, dtype=torch.float32) @ run.guide.loc
        mean = run.model.likelihood(run.model.decode(moved), batch["library"]).mean
        return mean.double().sum(0).log().numpy()

    def both(*received):
        row = np.isin(np.arange(6), received).astype(float)
        true = truth.log_fold_change({"perturbation": row}, {"perturbation": NONE}, control)
        return total(row) - total(NONE), true

    return both


def test_single_perturbations_are_found(fold_changes):
    for single in SINGLES:
        assert np.corrcoef(*fold_changes(single))[0, 1] >= 0.9


def test_pairs_that_no_cell_received_are_predicted(fold_changes):
    """In direction; in size by .4 to .7: the decoder has not seen states so far away."""
    for pair in HELD_OUT:
        predicted, true = fold_changes(*pair)
        assert np.corrcoef(predicted, true)[0, 1] >= 0.85
        assert predicted @ true / (true @ true) > 0.3


def test_a_perturbation_without_effect_is_shrunk(run, fold_changes):
    """Its shift to less than a fifth of any other's, its fold changes to less than a sixth."""
    lengths = run.guide.loc.detach().norm(dim=1)
    assert lengths[NULL] < lengths[list(SINGLES)].min() / 5
    sizes = [fold_changes(single)[0].std() for single in (*SINGLES, NULL)]
    assert sizes[NULL] < min(sizes[:NULL]) / 6


def test_the_state_of_a_cell_stays_in_use(run):
    use = latent_use(run.bound(), [run.table.cells.rows(run.table.split.test)])
    assert use.verdict() is None and use.kl.sum() > 4


class Dense(Shift):
    """The same page with normal effects of the same variance."""

    def forward(self, library, perturbation, x=None):
        laplace, normal = page.dist.Laplace, dist.Normal
        page.dist.Laplace = lambda loc, scale: normal(loc, 2**0.5 * scale)
        try:
            return super().forward(library, perturbation, x)
        finally:
            page.dist.Laplace = laplace


def test_a_laplace_prior_leaves_more_effects_near_zero_at_no_worse_bound(truth, run):
    """Near zero: below a twentieth of the largest; bounds by two paired standard errors."""
    dense = fit(truth, Story(model=Dense, guide=ShiftGuide))
    shares, bounds = [], []
    for each in (run, dense):
        size = each.guide.loc.detach()[list(SINGLES)].abs()
        shares.append((size < size.max() / 20).float().mean())
        test = each.table.cells.rows(each.table.split.test)
        bounds.append(iwae(each.model, each.guide, [test], (100,))[100])
    assert shares[0] > 1.5 * shares[1]
    gap = bounds[0] - bounds[1]
    assert gap.mean() > -2 * standard_error(gap)
