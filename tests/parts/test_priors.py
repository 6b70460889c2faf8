"""Priors: against densities written by hand, and what the borrowed and learned ones promise."""

import copy
import math

import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from pgm_expr.guides import VAEGuide
from pgm_expr.parts import (
    FlowPosterior,
    FlowPrior,
    LowRankNormal,
    MixtureOfNormals,
    StandardNormal,
    VampPrior,
    WideNormal,
)

GENES, LATENT, HIDDEN = 6, 3, 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scattered(part, width=0.5):
    for parameter in part.parameters():
        parameter.data += width * torch.randn_like(parameter)
    return part


def on_a_grid(d, reach=6.0, steps=301):
    """The integral of a density over a square."""
    axis = torch.linspace(-reach, reach, steps)
    points = torch.cartesian_prod(axis, axis)  # (steps^2, 2)
    return d.log_prob(points).exp().sum() * (axis[1] - axis[0]) ** 2


def test_a_width_is_a_standard_deviation(float64):
    z = torch.randn(50, LATENT)
    expected = stats.norm(0, 3).logpdf(z.numpy()).sum(-1)
    assert torch.allclose(WideNormal(LATENT, 3.0)().log_prob(z), torch.as_tensor(expected))
    unit = WideNormal(LATENT, 1.0)().log_prob(z)
    assert torch.allclose(unit, StandardNormal(LATENT)().log_prob(z))


def test_a_mixture_of_normals_is_the_sum_of_its_normals(float64):
    part, z = scattered(MixtureOfNormals(LATENT, 5)), 2 * torch.randn(40, LATENT)
    loc, raw, logits = (p.detach().numpy() for p in (part.loc, part.raw_scale, part.logits))
    scale = nn.functional.softplus(torch.as_tensor(raw)).numpy() + 1e-3
    each = stats.norm(loc, scale).logpdf(z.numpy()[:, None]).sum(-1)  # (40, 5)
    expected = logsumexp(each + logits - logsumexp(logits), axis=-1)
    assert torch.allclose(part().log_prob(z), torch.as_tensor(expected))


def test_one_component_at_zero_is_the_standard_normal(float64):
    part, z = MixtureOfNormals(LATENT, 1), torch.randn(40, LATENT)
    part.loc.data.zero_()
    assert torch.allclose(part().log_prob(z), StandardNormal(LATENT)().log_prob(z))


def test_scales_of_a_mixture_stay_above_their_floor():
    part = MixtureOfNormals(LATENT)
    part.raw_scale.data.fill_(-1000.0)
    z = torch.zeros(1, LATENT)
    assert part().component_distribution.variance.sqrt().ge(1e-3).all()
    assert part().log_prob(z).isfinite().all()


class TestVamp:
    @pytest.fixture(params=[None, LowRankNormal, FlowPosterior], ids=["diagonal", "low", "flow"])
    def guide(self, request):
        family = request.param and request.param(HIDDEN, LATENT)
        return VAEGuide(GENES, LATENT, HIDDEN, posterior=family).double().eval()

    @pytest.fixture
    def examples(self, float64):
        return torch.poisson(torch.full((4, GENES), 3.0))

    @pytest.fixture
    def prior(self, guide, examples):
        return VampPrior(GENES, guide, examples=examples, pseudo_inputs=5)

    def test_is_the_mixture_of_the_guides_posteriors(self, prior, guide):
        prior.logits.data.normal_()
        z = torch.randn(20, LATENT)
        weights = prior.logits.softmax(-1)
        each = [guide.posterior(guide.encode(cell)).log_prob(z).exp() for cell in prior.cells]
        mixture = sum(w * density for w, density in zip(weights, each, strict=True))
        assert torch.allclose(prior().log_prob(z), mixture.log())

    def test_owns_nothing_of_the_guide(self, prior):
        names = {"logits", "raw_cells"}
        assert set(prior.state_dict()) == {n for n, _ in prior.named_parameters()} == names

    def test_gradients_reach_the_pseudo_cells_and_the_encoder(self, prior, guide):
        value = prior().expand((50,)).sample()
        prior().log_prob(value).sum().backward()
        for parameter in (prior.raw_cells, prior.logits, *guide.encode.parameters()):
            assert parameter.grad.isfinite().all() and parameter.grad.ne(0).any()

    def test_pseudo_cells_start_at_the_examples_in_turn(self, prior, examples):
        expected = examples[[0, 1, 2, 3, 0]].log1p()
        assert torch.allclose(prior.cells, expected, atol=0.011)
        assert prior.cells.gt(0).all()

    def test_a_pseudo_count_of_zero_can_leave_zero(self, prior):
        """And none becomes negative: the slope of |raw| is 1 on both sides."""
        for start in (1e-6, -1e-6):
            prior.raw_cells.data.fill_(start)
            (slope,) = torch.autograd.grad(prior.cells.sum(), prior.raw_cells)
            assert slope.abs().eq(1).all() and prior.cells.ge(0).all()

    def test_a_copy_borrows_the_copied_guide(self, prior, guide):
        twin, twin_guide = copy.deepcopy((prior, guide))
        assert twin._borrowed[0] is twin_guide and twin_guide is not guide
        z = torch.randn(7, LATENT)
        assert torch.equal(twin().log_prob(z), prior().log_prob(z))

    def test_invented_cells_follow_the_average(self, guide):
        average = torch.tensor([0.9, 0.02, 0.02, 0.02, 0.02, 0.02])
        prior = VampPrior(GENES, guide, average, pseudo_inputs=200)
        shares = prior.cells.expm1().mean(0)
        assert shares.argmax() == 0 and (shares[0] > 5 * shares[1:]).all()

    def test_a_guide_without_posterior_is_refused(self):
        with pytest.raises(ValueError, match="guide: Linear has no encode and no posterior. Pass"):
            VampPrior(GENES, nn.Linear(2, 2))

    def test_examples_of_other_genes_are_refused(self, guide):
        with pytest.raises(ValueError, match=r"examples: shape \(3, 9\) where 6 genes"):
            VampPrior(GENES, guide, examples=torch.ones(3, 9))


class TestFlow:
    def test_integrates_to_one(self, float64):
        part = scattered(FlowPrior(2), 0.2)
        assert abs(on_a_grid(part()) - 1) < 0.01

    @pytest.mark.parametrize("latent", [1, 2, 10])
    def test_starts_near_the_standard_normal(self, latent):
        """The divergence from it, by 5 000 draws; standard error below .01."""
        z = torch.randn(5000, latent)
        gap = StandardNormal(latent)().log_prob(z) - FlowPrior(latent)().log_prob(z)
        assert gap.mean().abs() < 0.1

    def test_draws_follow_the_density(self, float64):
        """E_p[q / p] = 1 for any density q: five standard errors, failure rate 1e-6."""
        d = scattered(FlowPrior(2), 0.1)()
        z = d.sample((20_000,))
        q = MultivariateNormal(z.mean(0), 0.3 * z.T.cov())
        weight = (q.log_prob(z) - d.log_prob(z)).exp()
        assert (weight.mean() - 1).abs() < 5 * weight.std() / len(weight) ** 0.5

    @pytest.mark.parametrize("reach", [5.0, 50.0, 1000.0])
    def test_far_values_have_finite_densities_and_gradients(self, reach):
        part = scattered(FlowPrior(LATENT))
        z = (reach * (2 * torch.rand(500, LATENT) - 1)).requires_grad_()
        log_prob = part().log_prob(z)
        gradients = torch.autograd.grad(log_prob.sum(), [z, *part.parameters()])
        assert log_prob.isfinite().all() and all(g.isfinite().all() for g in gradients)

    def test_learns_two_moons_that_a_normal_cannot(self):
        """By more than .7 nats a point over the best normal, on new points."""
        part, x = FlowPrior(2), moons(2000)
        optimizer = torch.optim.Adam(part.parameters(), 5e-3)
        for batch in x.repeat(8, 1).split(100):
            optimizer.zero_grad()
            (-part().log_prob(batch).mean()).backward()
            optimizer.step()
        best, fresh = MultivariateNormal(x.mean(0), x.T.cov()), moons(2000)
        assert (part().log_prob(fresh) - best.log_prob(fresh)).mean() > 0.7


def moons(number):
    angle, side = math.pi * torch.rand(number), torch.randint(2, (number,)) * 2 - 1.0
    crescents = torch.stack([angle.cos() * side, angle.sin() * side], -1)
    centre = torch.stack([0.5 * side, 0.25 * side], -1)
    return 1.5 * (crescents - centre) + Normal(0, 0.1).sample((number, 2))
