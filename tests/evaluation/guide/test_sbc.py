"""Calibration of guides: exact ones pass at the stated rate, four kinds of wrong ones don't."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from pgm_expr.evaluation.guide.sbc import JOINT, LEVELS, sbc


def contexts(cells, genes=6):
    return [{"library": torch.ones(cells, 1), "x": torch.zeros(cells, genes)}]


class Bent(nn.Module):
    """The exact posterior with its scale, mean or a dimension changed."""

    def __init__(self, model, scale=1.0, shift=0.0, dropped=None):
        super().__init__()
        self._borrowed = (model,)
        self.scale, self.shift, self.dropped = scale, shift, dropped

    def forward(self, library, x=None):
        (model,) = self._borrowed
        mean = (x - model.mu) @ model.gain().T
        tril = torch.linalg.cholesky(model.precision().inverse())
        q = dist.MultivariateNormal(mean + self.shift, scale_tril=self.scale * tril)
        if self.dropped is not None:  # the prior in its place: it knows nothing of the cell
            known = q.covariance_matrix.diagonal(dim1=-2, dim2=-1).sqrt()
            loc, sd = mean.clone(), known.clone().expand_as(mean).clone()
            loc[..., self.dropped], sd[..., self.dropped] = 0.0, 1.0
            q = dist.Normal(loc, sd).to_event(1)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", q)


@pytest.fixture
def genes(ppca):
    return ppca.x.shape[1]


def test_the_exact_posterior_passes(ppca, stories, genes):
    """alpha = .05, and |coverage - level| < .03 of 4,000 cells (five deviations at most)."""
    found = sbc(ppca.model, stories.ExactGuide(ppca.model), contexts(4000, genes))
    assert not found.flagged
    assert found.error < 0.035 and found.pooled_error < 0.03
    assert set(found.ranks) == {*(f"z[{d}]" for d in range(found_latent(ppca))), JOINT}


def found_latent(ppca):
    return ppca.model.loadings.shape[1]


class Replicated(nn.Module):
    """A story whose cells, and what is drawn after them, come from a seed of their own."""

    def __init__(self, model, seed):
        super().__init__()
        self.model, self.seed = model, seed

    def forward(self, library, x=None):
        if x is None:
            torch.manual_seed(self.seed)
        return self.model(library, x)


def test_the_exact_posterior_is_flagged_as_often_as_stated(ppca, stories, genes):
    """Of 200 replications at alpha = .2, which is a union bound: fails once in 10,000."""
    guide, flags = stories.ExactGuide(ppca.model), 0
    for seed in range(200):
        model = Replicated(ppca.model, seed)
        flags += bool(sbc(model, guide, contexts(100, genes), draws=19, alpha=0.2).flagged)
    assert flags <= stats.binom.ppf(1 - 1e-4, 200, 0.2)
    assert flags >= 5  # and the check is no dead letter


@pytest.mark.parametrize(
    "wrong", [dict(scale=0.5), dict(scale=2.0), dict(shift=0.3), dict(dropped=0)], ids=str
)
def test_wrong_guides_are_flagged(ppca, genes, wrong):
    found = sbc(ppca.model, Bent(ppca.model, **wrong), contexts(1000, genes))
    assert found.flagged


def test_a_dropped_dimension_shows_in_the_joint_alone(ppca, genes):
    found = sbc(ppca.model, Bent(ppca.model, dropped=0), contexts(2000, genes))
    assert JOINT in found.flagged and "z[0]" not in found.flagged


def test_what_is_wrong_can_be_read(ppca, genes):
    """Narrow covers too little, wide too much, a mean too high leaves truths below."""
    exact = {
        d: np.mean([*_bent(ppca, genes, **d_).coverage.values()], 0) - LEVELS
        for d, d_ in {"narrow": dict(scale=0.5), "wide": dict(scale=2.0)}.items()
    }
    assert exact["narrow"].max() < -0.02 and exact["wide"].min() > 0.02
    assert _bent(ppca, genes, shift=0.3).bias["z[0]"] < -0.05


def _bent(ppca, genes, **wrong):
    return sbc(ppca.model, Bent(ppca.model, **wrong), contexts(1000, genes))


def test_ecdf_bands_hold_the_right_guide_and_lose_the_wrong_one(ppca, stories, genes):
    for guide, inside in ((stories.ExactGuide(ppca.model), True), (Bent(ppca.model, 0.5), False)):
        curves = sbc(ppca.model, guide, contexts(1000, genes)).ecdf()
        z = curves["z[0]"]
        assert np.all((curves["low"] <= z) & (z <= curves["high"])) == inside


class Kinds(nn.Module):
    """y ~ Categorical, x ~ Poisson(rate_y): its posterior in closed form."""

    rates = torch.tensor([[2.0, 5.0], [4.0, 3.0], [3.0, 8.0]])
    share = torch.tensor([0.2, 0.5, 0.3])

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Categorical(self.share))
            return pyro.sample("x", dist.Poisson(self.rates[y]).to_event(1), obs=x)


class KindsGuide(nn.Module):
    def __init__(self, power=1.0):
        super().__init__()
        self.power = power

    def forward(self, library, x=None):
        each = dist.Poisson(Kinds.rates).to_event(1).log_prob(x.unsqueeze(-2))
        logits = self.power * (each + Kinds.share.log())
        with pyro.plate("cells", len(library)):
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})


@pytest.mark.parametrize("power, right", [(1.0, True), (3.0, False)])
def test_a_discrete_latent_is_calibrated_too(power, right):
    found = sbc(Kinds(), KindsGuide(power), contexts(2000, 2))
    assert set(found.ranks) == {"y", JOINT} and (not found.flagged) == right


def test_a_site_of_all_cells_is_held(shared, stories):
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    found = sbc(shared.model, guide, contexts(1000, shared.x.shape[1]))
    assert not any("mu" in name for name in found.ranks) and not found.flagged
