"""NUTS of a few cells: closed-form posteriors are found, and guides are judged against them."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgm_expr.evaluation.guide import nuts
from pgm_expr.evaluation.guide.sites import DiscreteLatent
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.parts import MixtureOfNormals

CELLS = 5


@pytest.fixture
def few(ppca):
    return {name: value[:CELLS] for name, value in ppca.batch.items()}


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def found(ppca, few, kept):
    """The reference of the same few cells, run once."""
    if not kept:
        kept["found"] = nuts.reference(ppca.model, ppca.guide, few, draws=250, warmup=100)
    return kept["found"]


def exact(model, x):
    mean = (x - model.mu) @ model.gain().T
    return mean.detach().numpy(), model.precision().inverse().diagonal().sqrt().detach().numpy()


def test_the_posterior_of_a_linear_story_is_found(ppca, few, found):
    mean, sd = exact(ppca.model, few["x"])
    drawn = found.draws.reshape(-1, *mean.shape)
    error = sd / np.sqrt(found.ess)
    assert found.draws.shape == (4, 250, CELLS, 3) and found.names == ["z[0]", "z[1]", "z[2]"]
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * error).all()
    assert np.abs(np.log(drawn.std(0) / sd)).max() < 0.15
    assert found.rhat.max() < 1.03 and found.ess.min() > 200


def test_the_exact_guide_agrees(ppca, few, found, stories):
    told = nuts.agreement(found, stories.ExactGuide(ppca.model), few)
    assert told.mixed == 1 and len(told.shift) == CELLS * 3
    assert np.abs(told.shift).max() < 0.2 and np.abs(np.log(told.width)).max() < 0.15
    for level, share in told.coverage.items():
        assert share == pytest.approx(level, abs=0.03)


def test_a_narrow_guide_is_too_sure_by_what_the_algebra_says(ppca, few, found, stories):
    half = stories.DiagonalGuide().match(ppca.model, width=0.5)
    told = nuts.agreement(found, half, few)
    _, sd = exact(ppca.model, few["x"])
    expected = half.log_scale.exp().detach().numpy() / sd
    assert told.width.reshape(CELLS, 3).mean(0) == pytest.approx(expected, rel=0.08)
    assert told.coverage[0.9] < 0.75 and told.coverage[0.5] < 0.35


def test_a_shifted_guide_is_seen(ppca, few, found, stories):
    ppca.guide.loc.bias.data += 1.0
    _, sd = exact(ppca.model, few["x"])
    told = nuts.agreement(found, ppca.guide, few)
    assert told.shift.reshape(CELLS, 3).mean(0) == pytest.approx(1 / sd, rel=0.15)


class Rates(nn.Module):
    """z ~ Gamma(2, 1), x ~ Poisson(z): the posterior is Gamma(2 + x, 2), positive."""

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Gamma(2.0, torch.ones(len(library), 1)).to_event(1))
            pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)


class RatesGuide(nn.Module):
    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Gamma(2.0 + x, 2.0 * torch.ones_like(x)).to_event(1))


def test_a_positive_latent_is_found(float64):
    x = torch.tensor([[0.0], [3.0], [12.0]])
    batch = {"library": torch.ones(3, 1), "x": x}
    told = nuts.reference(Rates(), RatesGuide(), batch, draws=250, warmup=100)
    mean, sd = ((2 + x) / 2).numpy(), ((2 + x).sqrt() / 2).numpy()
    drawn = told.draws.reshape(-1, 3, 1)
    assert drawn.min() > 0
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * sd / np.sqrt(told.ess)).all()
    agreed = nuts.agreement(told, RatesGuide(), batch)
    assert np.abs(agreed.shift).max() < 0.2 and np.abs(np.log(agreed.width)).max() < 0.15


def test_a_shared_site_is_held_at_one_draw(shared, stories):
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    batch = {name: value[:4] for name, value in shared.batch.items()}
    told = nuts.reference(shared.model, guide, batch, draws=200, warmup=100)
    mu = told.shared.nodes["mu"]["value"]
    mean = ((batch["x"] - mu) @ shared.model.gain().T).detach().numpy()
    sd = shared.model.precision().inverse().diagonal().sqrt().detach().numpy()
    error = 4.5 * sd / np.sqrt(told.ess)
    assert told.names == ["z[0]"]
    assert (np.abs(told.draws.mean((0, 1)) - mean) < error).all()


def test_the_same_seed_gives_the_same_draws_and_modes_are_put_back(ppca, few):
    ppca.model.train()
    first, again = (
        nuts.reference(ppca.model, ppca.guide, few, draws=5, warmup=5) for _ in range(2)
    )
    assert np.array_equal(first.draws, again.draws) and ppca.model.training


class Kinds(Rates):
    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            kind = pyro.sample("kind", dist.Bernoulli(torch.full((len(library),), 0.5)))
            pyro.sample("x", dist.Poisson(1 + 9 * kind[:, None]).to_event(1), obs=x)


class KindsGuide(nn.Module):
    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("kind", dist.Bernoulli(torch.full((len(library),), 0.5)))


def test_discrete_latents_are_refused():
    batch = {"library": torch.ones(3, 1), "x": torch.ones(3, 1)}
    with pytest.raises(DiscreteLatent, match="site 'kind'"):
        nuts.reference(Kinds(), KindsGuide(), batch)


def test_chains_that_disagree_are_no_reference(few, ppca, found):
    apart = found.draws + 10 * np.arange(4)[:, None, None, None]
    broken = nuts.Reference(apart, found.names, found.shared)
    with pytest.raises(ValueError, match="NUTS has not converged for any of 15"):
        nuts.agreement(broken, ppca.guide, few)


def test_a_mixture_as_prior_can_be_sampled_from():
    """Of whose support Pyro knows no transform."""
    torch.manual_seed(0)
    model = VAE(6, latent=2, hidden=4, prior=MixtureOfNormals(2, 3))
    x = torch.poisson(torch.full((2, 6), 3.0)) + 1
    batch = {"x": x, "library": x.sum(-1, keepdim=True)}
    guide = VAEGuide(6, latent=2, hidden=4)
    found = nuts.reference(model, guide, batch, draws=5, warmup=5, chains=2)
    assert found.draws.shape == (2, 5, 2, 2) and np.isfinite(found.draws).all()
