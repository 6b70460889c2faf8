"""Differences between groups: kept or not, sure or not."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from pgm_expr.evaluation.effects.differential import (
    FoldChange,
    fold_change,
    kept,
    posterior_fold_change,
)

GENES, CELLS = 200, 3000


@pytest.fixture(scope="module")
def effects():
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, GENES) * (rng.random(GENES) < 0.3)


def counts(effects, seed, cells=CELLS):
    rng = np.random.default_rng(seed)
    groups = np.arange(cells) % 2
    base = np.exp(np.random.default_rng(9).normal(0.5, 1, GENES))
    return rng.poisson(base * np.exp(groups[:, None] * effects)), groups


class TestKept:
    def test_the_same_effects_are_at_the_ceiling(self, effects):
        found = kept(*counts(effects, 1), *counts(effects, 2))
        assert found.r > found.ceiling.r - 0.02 > 0.9
        assert found.slope == pytest.approx(1, abs=0.1) and found.sign > 0.95 and found.top > 0.7

    def test_reversed_effects_score_minus_one(self, effects):
        """By unsigned ranks they would be perfect."""
        found = kept(*counts(effects, 1), *counts(-effects, 2), top=20)
        assert found.r < -0.9 and found.sign < 0.05 and found.top < 0.05

    def test_halved_effects_have_half_the_slope(self, effects):
        assert kept(*counts(effects, 1), *counts(effects / 2, 2)).slope == pytest.approx(
            0.5, abs=0.1
        )

    def test_no_effects_are_not_kept(self, effects):
        found = kept(*counts(effects, 1), *counts(0 * effects, 2))
        assert abs(found.r) < 0.3 and abs(found.slope) < 0.1

    def test_groups_of_few_cells_are_refused(self, effects):
        x, groups = counts(effects, 1, 6)
        with pytest.raises(ValueError, match=r"real groups have \[3, 3\] cells"):
            kept(x, groups, x, groups)


def test_fold_changes_are_those_of_the_truth(effects):
    """Up to the constant that compositions leave open."""
    x, groups = counts(effects, 3, 4000)
    found = fold_change(x, groups)
    assert np.corrcoef(found, effects)[0, 1] > 0.98


class Known(nn.Module):
    """x ~ Poisson(library softmax(base + z effects)), one number z a cell."""

    def __init__(self, effects):
        super().__init__()
        self.effects = torch.as_tensor(effects, dtype=torch.float32)

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            rate = library * (z * self.effects).softmax(-1)
            return pyro.sample("x", dist.Poisson(rate).to_event(1), obs=x)


class Told(nn.Module):
    """q(z | x) = Normal(batch, scale): which group a cell is of."""

    scale = 0.3

    def forward(self, library, batch, x=None):
        with pyro.plate("cells", len(library)):
            loc = batch.float().unsqueeze(-1)
            pyro.sample("z", dist.Normal(loc, self.scale).to_event(1))


def group(level, cells=100):
    return {
        "library": torch.full((cells, 1), 1e3),
        "x": torch.ones(cells, GENES),
        "batch": torch.full((cells,), level),
    }


def test_posterior_fold_changes_are_the_models(effects):
    found = posterior_fold_change(Known(effects), Told(), [group(1)], [group(0)], draws=50)
    assert found.draws.shape == (50, GENES)
    assert np.corrcoef(found.mean, effects)[0, 1] > 0.99


def test_two_halves_of_one_group_differ_in_nothing(effects):
    found = posterior_fold_change(Known(effects), Told(), [group(0)], [group(0)], draws=50)
    assert np.abs(found.mean).max() < 0.2


def test_fewer_cells_are_less_sure(effects):
    few, many = (
        posterior_fold_change(Known(effects), Told(), [group(1, n)], [group(0, n)], draws=100)
        for n in (5, 100)
    )
    changed = np.abs(effects) > 0.5
    assert np.median(few.sd[changed] / many.sd[changed]) == pytest.approx(20**0.5, rel=0.25)


def test_intervals_are_quantiles():
    draws = FoldChange(np.random.default_rng(0).normal(size=(20_000, 3)))
    assert np.allclose(draws.interval(0.9).T, stats.norm.ppf([0.05, 0.95]), atol=0.05)
