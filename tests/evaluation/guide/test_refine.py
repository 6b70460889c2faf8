"""Refinement by cell against probabilistic PCA, whose best diagonal posterior is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, NegativeBinomial
from torch.distributions.transforms import AffineTransform

from pgm_expr.evaluation import amortisation_gap
from pgm_expr.evaluation.guide import refine
from pgm_expr.inference.tracing import NotInBatch

PRECISE = dict(particles=16, draws=1000)  # standard error of a cell's bound: about .013 nats


def optimum(story):
    """The evidence less the KL of the best diagonal Gaussian to the posterior, (N,)."""
    precision = story.model.precision().detach()
    gap = (precision.diagonal().log().sum() - precision.logdet()) / 2
    return story.model.evidence(story.x) - gap


def posterior_mean(story):
    return ((story.x - story.model.mu) @ story.model.gain().T).detach()


def spoil(story, width=1.0, shift=0.0):
    story.guide.match(story.model, width).loc.bias.data += shift
    return story


def loss(story, width, shift):
    """What a spoilt guide loses to the best: D ((w^2 - 1) / 2 - log w) + d' L d / 2, in nats."""
    precision = story.model.precision().detach()
    wide = (width**2 - 1) / 2 - math.log(width)
    return len(precision) * wide + shift**2 * precision.sum() / 2


def halves(batch):
    """The batch as two, of unequal size."""
    cut = 3 * len(batch["x"]) // 5
    return [
        {name: column[rows] for name, column in batch.items()}
        for rows in (slice(cut), slice(cut, None))
    ]


def test_the_best_diagonal_guide_has_no_gap(ppca):
    result = amortisation_gap(ppca.model, ppca.guide, [ppca.batch], **PRECISE)
    assert result.gap.abs().mean() < 0.02 and result.gap.abs().max() < 0.06
    assert (result.amortised - optimum(ppca)).abs().max() < 0.06


@pytest.mark.parametrize("draws", [7, refine.ENTRIES // 200], ids=["one chunk", "two"])
def test_without_steps_both_bounds_are_the_same_number(ppca, draws):
    """Same draws before and after, in chunks too; a draw of all cells has 240 entries."""
    spoil(ppca, 2.0, 1.0)
    result = amortisation_gap(ppca.model, ppca.guide, [ppca.batch], steps=0, draws=draws)
    assert result.amortised.shape == (40,) and result.gap.abs().max() < 1e-8
    assert torch.allclose(result.latent, posterior_mean(ppca) + 1)


@pytest.mark.parametrize("width, shift", [(2.5, 0.0), (0.4, 0.0), (1.0, 1.0), (2.0, -0.5)])
def test_refinement_finds_the_mean_field_optimum(ppca, width, shift):
    spoil(ppca, width, shift)
    result = amortisation_gap(ppca.model, ppca.guide, halves(ppca.batch), **PRECISE)
    best = optimum(ppca)
    assert (result.refined.mean() - best.mean()).abs() < 0.02
    assert (result.refined - best).abs().max() < 0.05
    assert (result.refined < ppca.model.evidence(ppca.x)).all()  # .1 nats above the optimum
    assert (result.latent - posterior_mean(ppca)).abs().max() < 0.05  # scales are .24 to .33
    assert (result.gap.mean() / loss(ppca, width, shift) - 1).abs() < 0.03


def test_a_guide_outside_the_family_may_come_out_ahead(ppca, stories):
    result = amortisation_gap(ppca.model, stories.ExactGuide(ppca.model), [ppca.batch], **PRECISE)
    assert torch.allclose(result.amortised, ppca.model.evidence(ppca.x))
    lost = ppca.model.evidence(ppca.x) - optimum(ppca)
    assert (result.gap + lost).abs().max() < 0.06


@pytest.mark.parametrize("failing", [False, True])
def test_model_guide_and_generator_stay_as_they_are(pair, table, weights, failing):
    model, guide = pair()
    model.train(), guide.train()
    model.decode.eval(), guide.posterior.eval()  # modes of parts, each its own
    guide.posterior.loc.bias.requires_grad_(False)
    for half in (model, guide):
        for parameter in half.parameters():
            parameter.grad = torch.full_like(parameter, 3.0) if parameter.ndim > 1 else None

    def state():
        modules = [*model.modules(), *guide.modules()]
        parameters = [*model.parameters(), *guide.parameters()]
        flags = [m.training for m in modules], [p.requires_grad for p in parameters]
        grads = [None if p.grad is None else p.grad.tolist() for p in parameters]
        values = [{k: v.tolist() for k, v in weights(half).items()} for half in (model, guide)]
        return flags, grads, values, torch.get_rng_state().tolist()

    before = state()
    batches = [{"library": torch.ones(2, 1)}] if failing else table.validation()
    try:
        amortisation_gap(model, guide, batches, steps=3, draws=2)
    except NotInBatch:
        assert failing
    assert state() == before


def test_same_result_twice_whatever_the_seed_and_gradients_of_the_caller(pair, table):
    results = []
    for seed in (0, 1):
        model, guide = pair()
        torch.manual_seed(seed)
        with torch.set_grad_enabled(bool(seed)):
            results.append(amortisation_gap(model, guide, table.validation(), steps=5, draws=3))
    assert all(map(torch.equal, *results))
    assert results[0].refined.shape == (64,) and results[0].latent.shape == (64, 2)
    assert not any(column.requires_grad for column in results[0])


def test_a_vae_of_counts_gains(pair, table):
    model, guide = pair()
    result = amortisation_gap(model, guide, table.validation())
    assert result.gap.mean() > 0.5 and (result.gap > 0).float().mean() > 0.95


def test_shared_site_is_one_draw_for_all_batches(shared, stories):
    """Given mu the cells are independent, and one latent's best diagonal posterior is exact."""
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    other = stories.SharedMean(genes=2, latent=1, sigma=1.0)
    guide._borrowed = (other,)  # q(mu) stays; q(z | x, mu) is that of other loadings
    result = amortisation_gap(shared.model, guide, halves(shared.batch), **PRECISE)
    centred = shared.x - shared.model.mu_drawn.detach()
    marginal = MultivariateNormal(torch.zeros(2), shared.model.covariance())
    evidence = marginal.log_prob(centred).detach()
    assert (result.refined - evidence).abs().max() < 0.05
    assert result.gap.min() > 0.2
    mean = (centred @ shared.model.gain().T).detach()
    assert (result.latent - mean).abs().max() < 0.05


def without_moments(loc, scale):
    """A normal that, like a flow, can be drawn from and scored but knows no mean."""
    standard = dist.Normal(torch.zeros_like(loc), 1.0).to_event(1)
    return dist.TransformedDistribution(standard, [AffineTransform(loc, scale)])


class FlowGuide(nn.Module):
    def __init__(self, diagonal):
        super().__init__()
        self.diagonal = diagonal

    def forward(self, library, x):
        with pyro.plate("cells", len(library)):
            scale = self.diagonal.log_scale.exp()
            pyro.sample("z", without_moments(self.diagonal.loc(x), scale))


def test_a_guide_without_moments_starts_from_its_draws(ppca):
    spoil(ppca, 1.5, 0.5)
    guide = FlowGuide(ppca.guide)
    start = amortisation_gap(ppca.model, guide, [ppca.batch], steps=0, **PRECISE)
    error = 1.5 * 0.33 / refine.START**0.5
    assert 0 < (start.latent - posterior_mean(ppca) - 0.5).abs().max() < 4.5 * error
    result = amortisation_gap(ppca.model, guide, [ppca.batch], **PRECISE)
    assert (result.refined - optimum(ppca)).abs().max() < 0.05
    assert (result.latent - posterior_mean(ppca)).abs().max() < 0.05
    assert (result.gap.mean() / loss(ppca, 1.5, 0.5) - 1).abs() < 0.03


class GammaRate(nn.Module):
    """rate ~ Gamma(20, 4), x ~ Poisson(rate): a positive latent without event dimension."""

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            rate = pyro.sample("rate", dist.Gamma(20.0, 4.0))  # (N,)
            return pyro.sample("x", dist.Poisson(rate.unsqueeze(-1)).to_event(1), obs=x)


class RateGuide(nn.Module):
    """The prior but for its width."""

    def forward(self, library):
        with pyro.plate("cells", len(library)):
            pyro.sample("rate", dist.Gamma(5.0, 1.0))


def test_positive_latent_is_refined_within_its_support(float64):
    """x is negative binomial; a log-normal is within .01 nats of Gamma(20 + x, 5)."""
    x = torch.arange(10.0).unsqueeze(-1)
    batch = {"library": torch.ones(10, 1), "x": x}
    result = amortisation_gap(GammaRate(), RateGuide(), [batch], **PRECISE)
    evidence = NegativeBinomial(20.0, probs=torch.tensor(0.2)).log_prob(x).squeeze(-1)
    assert (result.refined - evidence).abs().max() < 0.05
    assert result.gap.min() > 0.2
    mean = (20 + x) / 5
    assert result.latent.shape == (10, 1) and (result.latent / mean - 1).abs().max() < 0.05


class Mixture(nn.Module):
    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            label = pyro.sample("label", dist.Categorical(torch.ones(2) / 2))
            return pyro.sample("x", dist.Poisson(label + 1.0), obs=x)


class MixtureGuide(nn.Module):
    def __init__(self, silent):
        super().__init__()
        self.silent = silent

    def forward(self, library):
        with pyro.plate("cells", len(library)):
            if not self.silent:
                pyro.sample("label", dist.Categorical(torch.ones(2) / 2))


@pytest.mark.parametrize("silent", [False, True])
def test_discrete_latent_is_named(silent):
    batch = {"library": torch.ones(4, 1), "x": torch.arange(4.0)}
    with pytest.raises(ValueError, match="'label': got a discrete latent.*Sum it out") as caught:
        amortisation_gap(Mixture(), MixtureGuide(silent), [batch])
    assert "\n" not in str(caught.value)


class Masked(nn.Module):
    """z counts only in cells that `library` marks; x is its noisy copy."""

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)), pyro.poutine.mask(mask=library[:, 0] > 0):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


class MaskedGuide(nn.Module):
    def forward(self, library):
        with pyro.plate("cells", len(library)), pyro.poutine.mask(mask=library[:, 0] > 0):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def test_masked_cells_cost_nothing(float64):
    batch = {"library": torch.tensor([[1.0], [0.0], [1.0]]), "x": torch.full((3, 2), 2.0)}
    result = amortisation_gap(Masked(), MaskedGuide(), [batch], **PRECISE)
    evidence = 2 * dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(2.0))
    assert (result.refined - evidence * torch.tensor([1.0, 0.0, 1.0])).abs().max() < 0.05
    assert result.refined[1] == result.amortised[1] == 0
