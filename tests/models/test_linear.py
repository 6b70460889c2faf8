"""The linear story's Gaussian limit is probabilistic PCA, whose evidence is known."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

from pgm_expr.inference import IWAE, Trace
from pgm_expr.models import LinearVAE
from pgm_expr.parts import Gaussian

CELLS, GENES, LATENT = 40, 6, 2


class Exact(nn.Module):
    """The posterior of a PPCA whose loadings are orthogonal: its dimensions are independent."""

    def __init__(self, gain, mean, scale):
        super().__init__()
        self.gain, self.mean, self.scale = gain, mean, scale

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            loc = (x - self.mean) @ self.gain
            pyro.sample("z", dist.Normal(loc, self.scale.expand_as(loc)).to_event(1))


@pytest.fixture
def best(float64):
    """The maximum-likelihood solution on 40 cells, by the eigenvalues of their covariance."""
    torch.manual_seed(0)
    x = torch.randn(CELLS, GENES) @ torch.randn(GENES, GENES) + 5
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / CELLS)  # rising
    noise = values[:-LATENT].mean()
    loadings = vectors[:, -LATENT:] * (values[-LATENT:] - noise).sqrt()  # (G, D)
    model = LinearVAE(GENES, latent=LATENT, likelihood=Gaussian(GENES, mean, isotropic=True))
    model.decode.weight.data, model.decode.bias.data = loadings, torch.zeros(GENES)
    model.likelihood.log_scale.data.fill_(noise.log() / 2)
    guide = Exact(loadings / values[-LATENT:], mean, (noise / values[-LATENT:]).sqrt())
    covariance = loadings @ loadings.T + noise * torch.eye(GENES)
    return model, guide, {"library": torch.ones(CELLS, 1), "x": x}, values, mean, covariance


def test_the_bound_is_the_evidence_of_ppca(best):
    """Cell by cell, whatever is drawn and however often."""
    model, guide, batch, _, mean, covariance = best
    exact = torch.tensor(multivariate_normal(mean, covariance).logpdf(batch["x"]))
    for kind, particles in ((Trace, 1), (Trace, 3), (IWAE, 1), (IWAE, 7)):
        objective = kind(model, guide, cells=CELLS, particles=particles)
        assert torch.allclose(objective.per_cell(**batch), exact, atol=1e-6)


def test_its_mean_is_tipping_and_bishops_maximum(best):
    """-1/2 (G log 2 pi + sum of D log eigenvalues + (G - D) log noise + G)."""
    model, guide, batch, values, *_ = best
    noise, kept = values[:-LATENT].mean(), values[-LATENT:]
    logs = kept.log().sum() + (GENES - LATENT) * noise.log()
    maximum = -(GENES * math.log(2 * math.pi) + logs + GENES) / 2
    for objective in (
        Trace(model, guide, cells=CELLS),
        IWAE(model, guide, cells=CELLS, particles=5),
    ):
        assert torch.allclose(-objective(**batch), maximum, atol=1e-6)


def test_any_other_model_has_a_lower_bound(best):
    """Twenty ways to move all its parameters a little, each by 2,000 draws a cell."""
    model, guide, batch, *_ = best
    bound = Trace(model, guide, cells=CELLS)
    at_best = bound.per_cell(**batch).mean()
    for _ in range(20):
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        found = Trace(other, guide, cells=CELLS, particles=2000).per_cell(**batch).mean()
        assert found < at_best


def test_loadings_are_the_change_of_log_means():
    torch.manual_seed(0)
    model = LinearVAE(GENES, latent=LATENT)
    z = torch.zeros(2, LATENT)
    z[1, 1] = 1.0
    change = model.decode(z).diff(dim=0)[0]
    assert model.loadings.shape == (LATENT, GENES)
    assert torch.allclose(change, model.loadings[1], atol=1e-6)
