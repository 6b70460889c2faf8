"""Posteriors: densities, draws and gradients beyond the contract of every part."""

import copy

import pytest
import torch
from pyro.distributions.util import detach
from torch.distributions import Distribution, MultivariateNormal

from pgm_expr.guides import VAEGuide
from pgm_expr.inference import Trace, check_story
from pgm_expr.models import VAE
from pgm_expr.parts import (
    DiagonalNormal,
    FlowPosterior,
    FlowPrior,
    LowRankNormal,
    MixtureOfNormals,
    StandardNormal,
    VampPrior,
)

GENES, LATENT, HIDDEN = 6, 3, 8
FAMILIES = [DiagonalNormal, LowRankNormal, FlowPosterior]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scattered(part, width=0.5):
    for parameter in part.parameters():
        parameter.data += width * torch.randn_like(parameter)
    return part


def reset_like(part, diagonal):
    """The same loc and scale as another posterior's."""
    part.loc.load_state_dict(diagonal.loc.state_dict())
    part.raw_scale.load_state_dict(diagonal.raw_scale.state_dict())
    return part


def silent(layer):
    for parameter in layer.parameters():
        parameter.data.zero_()


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_independent_over_particles_and_cells(family):
    part = family(HIDDEN, LATENT)
    z = part(torch.randn(HIDDEN).expand(7, HIDDEN)).expand((6, 7)).rsample()  # (6, 7, D)
    assert len(z.reshape(-1, LATENT).unique(dim=0)) == 42


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_carry_gradients_to_every_parameter(family):
    part = scattered(family(HIDDEN, LATENT))
    q = part(torch.randn(50, HIDDEN)).expand((4, 50))
    z = q.rsample()
    ((z**3).sum() + q.log_prob(z).sum()).backward()
    for name, parameter in part.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.ne(0).any(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_detached_posterior_scores_a_draw_with_the_gradient_of_the_draw_alone(family):
    """Doubly reparameterised gradients: d log q(z) / dz at fixed parameters."""
    part = scattered(family(HIDDEN, LATENT), 0.1)
    q = part(torch.randn(9, HIDDEN))
    z = q.rsample()
    fixed = detach(q).log_prob(z)
    assert torch.allclose(fixed, q.log_prob(z), atol=1e-4)
    leaf = z.detach().requires_grad_()
    (expected,) = torch.autograd.grad(q.log_prob(leaf).sum(), leaf)
    (slope,) = torch.autograd.grad(fixed.sum(), z)
    assert torch.allclose(slope, expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_without_gradient_still_scores_with_one(family):
    part = family(HIDDEN, LATENT)
    q = part(torch.randn(9, HIDDEN))
    assert q.log_prob(q.sample()).requires_grad


PRIORS = {
    "standard": lambda guide: StandardNormal(LATENT),
    "mixture": lambda guide: MixtureOfNormals(LATENT),
    "vamp": lambda guide: VampPrior(GENES, guide, pseudo_inputs=4),
    "flow": lambda guide: FlowPrior(LATENT),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_goes_with_every_posterior(prior, family):
    guide = VAEGuide(GENES, LATENT, HIDDEN, posterior=family(HIDDEN, LATENT))
    model = VAE(GENES, latent=LATENT, hidden=HIDDEN, prior=PRIORS[prior](guide))
    x = torch.poisson(torch.full((10, GENES), 4.0))
    batch = {"library": x.sum(-1, keepdim=True), "x": x}
    objective = Trace(model, guide, cells=10, particles=5)
    check_story(objective, batch)
    objective(**batch).backward()
    for name, parameter in [*model.named_parameters(), *guide.named_parameters()]:
        assert parameter.grad.isfinite().all() and parameter.grad.ne(0).any(), name
    assert objective.per_cell(**batch).shape == (10,)


class TestLowRank:
    def test_is_the_dense_normal(self, float64):
        part, h = scattered(LowRankNormal(HIDDEN, LATENT)), torch.randn(7, HIDDEN)
        factor = part.factor(h).view(7, LATENT, 2)
        scale = torch.nn.functional.softplus(part.raw_scale(h)) + 1e-4
        covariance = factor @ factor.mT + torch.diag_embed(scale**2)
        z = torch.randn(4, 7, LATENT)
        expected = MultivariateNormal(part.loc(h), covariance).log_prob(z)
        assert torch.allclose(part(h).log_prob(z), expected)

    def test_without_a_factor_is_diagonal(self, float64):
        part, h = LowRankNormal(HIDDEN, LATENT), torch.randn(7, HIDDEN)
        silent(part.factor)
        diagonal = reset_like(DiagonalNormal(HIDDEN, LATENT), part)
        z = torch.randn(4, 7, LATENT)
        assert torch.allclose(part(h).log_prob(z), diagonal(h).log_prob(z))

    def test_variance_stays_above_its_floor(self):
        part = LowRankNormal(HIDDEN, LATENT)
        part.raw_scale.bias.data.fill_(-1000.0)
        d = part(torch.randn(7, HIDDEN))
        assert d.cov_diag.ge(0.99e-8).all() and d.log_prob(d.mean).isfinite().all()


class TestFlow:
    @pytest.mark.parametrize("latent", [1, 2, 10])
    @pytest.mark.parametrize("shape", [(7,), (6, 7)], ids=["cells", "particles"])
    def test_remembered_density_is_the_recomputed_one(self, latent, shape):
        d = scattered(FlowPosterior(HIDDEN, latent), 0.1)(torch.randn(7, HIDDEN)).expand(shape)
        z = d.rsample()
        assert d.log_prob(z).shape == shape
        assert torch.allclose(d.log_prob(z), d.log_prob(z.clone()), atol=1e-4)

    def test_only_the_last_draw_is_remembered(self):
        d = FlowPosterior(HIDDEN, LATENT)(torch.randn(7, HIDDEN))
        first, second = d.rsample(), d.rsample()
        for z in (first, second):
            assert torch.allclose(d.log_prob(z), d.log_prob(z.clone()), atol=1e-4)

    def test_integrates_to_one(self, float64):
        d = scattered(FlowPosterior(HIDDEN, 2), 0.2)(torch.randn(1, HIDDEN))
        with torch.no_grad():
            spread = d.sample((2000,))
            low, high = spread.amin((0, 1)), spread.amax((0, 1))
            margin = high - low
            axes = [
                torch.linspace(a, b, 500) for a, b in zip(low - margin, high + margin, strict=True)
            ]
            cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
            total = d.log_prob(torch.cartesian_prod(*axes)[:, None]).exp().sum() * cell
        assert abs(total - 1) < 0.01

    def test_silent_flow_is_the_diagonal_normal(self, float64):
        part, h = FlowPosterior(HIDDEN, LATENT), torch.randn(7, HIDDEN)
        silent(part.flow)
        diagonal = reset_like(DiagonalNormal(HIDDEN, LATENT), part)
        z = torch.randn(4, 7, LATENT)
        assert torch.allclose(part(h).log_prob(z), diagonal(h).log_prob(z))

    def test_starts_near_the_diagonal_normal(self):
        part, h = FlowPosterior(HIDDEN, LATENT), torch.randn(500, HIDDEN)
        diagonal = reset_like(DiagonalNormal(HIDDEN, LATENT), part)(h)
        z = diagonal.sample((20,))
        assert (diagonal.log_prob(z) - part(h).log_prob(z)).mean().abs() < 0.1

    def test_a_copy_has_drawn_nothing(self):
        with torch.no_grad():
            d = FlowPosterior(HIDDEN, LATENT)(torch.randn(7, HIDDEN))
            z = d.rsample()
            assert d._last[0] is z and copy.deepcopy(d)._last == (None, None)

    def test_has_no_closed_form_mean(self):
        with pytest.raises(NotImplementedError):
            _ = FlowPosterior(HIDDEN, LATENT)(torch.randn(7, HIDDEN)).mean

    def test_borrowing_zuko_leaves_torchs_checks_on(self):
        assert Distribution._validate_args
