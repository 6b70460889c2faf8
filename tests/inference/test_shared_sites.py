"""What all cells share, AutoGuides with it, and ELBO's choice between closed form and draw."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.distributions import Gamma, Normal, kl_divergence

from pgm_expr.guides import BayesianVAEGuide, LatentLibraryGuide, VAEGuide
from pgm_expr.inference import ELBO, IWAE, MeanField, Renyi, Trace
from pgm_expr.models import VAE, BayesianVAE, LatentLibrary
from pgm_expr.parts import MixtureOfNormals


@pytest.fixture
def wide(ppca):
    """A PPCA whose guide is off in place and width, differently by dimension."""
    with torch.no_grad():
        ppca.guide.loc.bias.add_(torch.tensor([0.0, 0.3, -0.2]))
        ppca.guide.log_scale.add_(torch.tensor([0.1, 0.4, -0.3]))
    return ppca


def seeded(function, *args, seed=5, **kwargs):
    torch.manual_seed(seed)
    return function(*args, **kwargs)


class Rates(nn.Module):
    """rate_g ~ Gamma(2, 1) for all cells, z ~ N(0, 1), x ~ N(z, rate)."""

    def forward(self, library, x=None):
        rate = pyro.sample("rate", dist.Gamma(torch.full((3,), 2.0), 1.0).to_event(1))
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, rate).to_event(1), obs=x)


class RatesGuide(nn.Module):
    """Pyro's AutoNormal of log rate, whose unconstrained site the model has not."""

    def __init__(self):
        super().__init__()
        with pyro.settings.context(module_local_params=True):
            self.shared = AutoNormal(poutine.block(Rates(), expose=["rate"]), init_scale=0.4)
            self.shared(torch.ones(1, 1))

    def forward(self, library, x=None):
        self.shared(library)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))


@pytest.mark.parametrize("kind", [Trace, ELBO, IWAE, Renyi])
def test_auxiliary_site_of_an_autoguide_costs_its_entropy(float64, kind):
    """log p - log q by hand, q of the rate itself: log-normal."""
    guide, batch = RatesGuide(), {"library": torch.ones(4, 1), "x": torch.randn(4, 3)}
    draw = seeded(kind(Rates(), guide, cells=50, particles=3).draw, batch)
    loc, scale = guide.shared.locs.rate, guide.shared.scales.rate
    log_rate = seeded(Normal(loc, scale).sample)
    rate = log_rate.exp()
    cost = Normal(loc, scale).log_prob(log_rate) - log_rate  # log q(rate)
    by_hand = (Gamma(2.0, 1.0).log_prob(rate) - cost).sum()
    assert torch.allclose(draw.shared * 50, by_hand, rtol=1e-10)


def bayesian(table):
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    model = BayesianVAE(**sizes)
    return model.eval(), BayesianVAEGuide(model=model, **sizes).eval()


@pytest.mark.parametrize("kind", [Trace, ELBO, IWAE, Renyi])
def test_shared_dispersions_of_the_bayesian_vae(float64, table, kind):
    """Their cost by hand; none of it for held-out cells, whose number is infinite."""
    model, guide = bayesian(table)
    locs, scales = guide.shared.locs.log_dispersion, guide.shared.scales.log_dispersion
    drawn = seeded(Normal(locs, scales).sample)
    by_hand = Normal(0.0, 1.5).log_prob(drawn) - Normal(locs, scales).log_prob(drawn)
    paid, free = (
        seeded(kind(model, guide, cells=cells, particles=2).per_cell, **table.columns)
        for cells in (64, math.inf)
    )
    assert torch.allclose(paid - free, by_hand.sum() / 64, rtol=1e-8)
    draw = kind(model, guide, cells=math.inf).draw(table.columns)
    assert draw.shared == 0


def test_elbo_is_mean_field_where_closed_forms_exist(wide):
    bounds = [
        seeded(kind(wide.model, wide.guide, cells=wide.cells, particles=3).per_cell, **wide.batch)
        for kind in (ELBO, MeanField)
    ]
    assert torch.equal(*bounds)


def test_elbo_is_trace_where_they_do_not(float64, table):
    model = VAE(table.genes, latent=2, hidden=8, prior=MixtureOfNormals(2, 5)).eval()
    pair = model, VAEGuide(table.genes, latent=2, hidden=8).eval()
    bounds = [
        seeded(kind(*pair, cells=64, particles=3).per_cell, **table.columns)
        for kind in (ELBO, Trace)
    ]
    assert torch.equal(*bounds)


def test_elbo_chooses_site_by_site(float64, table):
    """z against a mixture at the draw, the library's KL in closed form."""
    sizes = dict(genes=table.genes, latent=2, hidden=8)
    model = LatentLibrary(**sizes, prior=MixtureOfNormals(2, 5)).eval()
    guide = LatentLibraryGuide(**sizes).eval()
    draw = seeded(ELBO(model, guide, cells=64).draw, table.columns)
    (q, p), (q_library, p_library) = draw.latents
    sampled = q["fn"].log_prob(q["value"]) - p["fn"].log_prob(q["value"])
    closed = kl_divergence(q_library["fn"].base_dist, p_library["fn"].base_dist).sum(-1)
    bound = seeded(ELBO(model, guide, cells=64).per_cell, **table.columns)
    assert torch.allclose(bound, draw.observed["x"][0] - sampled - closed, rtol=1e-10)
