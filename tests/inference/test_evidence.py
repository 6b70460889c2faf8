"""The bounds against log evidences and optima in closed form: probabilistic PCA."""

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from pgm_expr.inference import IWAE, MeanField, Trace


def average(values):
    """Mean and standard error over draws, the first dimension."""
    return values.mean(0), values.std(0) / len(values) ** 0.5


def mean_field_gap(model):
    """KL of the best diagonal Gaussian to the posterior: its precisions are diag(L)."""
    precision = model.precision().detach()
    return (precision.diagonal().log().sum() - precision.logdet()) / 2


@pytest.mark.parametrize("objective, particles", [(Trace, 1), (Trace, 4), (IWAE, 1), (IWAE, 7)])
def test_exact_posterior_gives_the_evidence_at_every_draw(ppca, stories, objective, particles):
    guide = stories.ExactGuide(ppca.model)
    bound = objective(ppca.model, guide, cells=ppca.cells, particles=particles)
    evidence = ppca.model.evidence(ppca.x)
    for _ in range(3):
        assert (bound.per_cell(**ppca.batch) - evidence).abs().max() < 1e-8
        assert (bound(**ppca.batch) + evidence.mean()).abs() < 1e-8


@pytest.mark.parametrize("objective", [Trace, MeanField])
def test_mean_field_optimum_is_the_evidence_less_the_gap(ppca, objective):
    """E_q log p(x | z) by sampling; failure rate 6e-5 at four standard errors."""
    bound = objective(ppca.model, ppca.guide, cells=ppca.cells, particles=20)
    draws = torch.stack([bound.per_cell(**ppca.batch).mean() for _ in range(100)])
    mean, error = average(draws.detach())
    optimum = ppca.model.evidence(ppca.x).mean() - mean_field_gap(ppca.model)
    assert (mean - optimum).abs() < 4 * error < 0.05


def test_trained_guide_finds_the_mean_field_optimum(ppca, stories):
    torch.manual_seed(3)
    guide = stories.DiagonalGuide()
    bound = MeanField(ppca.model, guide, cells=ppca.cells, particles=4)
    optimizer = torch.optim.Adam(guide.parameters(), 0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        optimizer.zero_grad()
        bound(**ppca.batch).backward()
        optimizer.step(), decay.step()
    exact = Trace(ppca.model, guide, cells=ppca.cells, particles=2000)
    optimum = ppca.model.evidence(ppca.x).mean() - mean_field_gap(ppca.model)
    assert (exact.per_cell(**ppca.batch).mean() - optimum).abs() < 0.05


@pytest.mark.parametrize("width", [1.0, 1.6])
def test_iwae_rises_with_particles_to_the_evidence(ppca, width):
    """Each step up and the ceiling within four standard errors; the last step closes the gap."""
    ppca.guide.match(ppca.model, width)
    evidence = ppca.model.evidence(ppca.x).mean()
    curve = []
    for particles in (1, 5, 50, 500):
        bound = IWAE(ppca.model, ppca.guide, cells=ppca.cells, particles=particles)
        draws = [bound.per_cell(**ppca.batch).mean().detach() for _ in range(120)]
        curve.append(average(torch.stack(draws)))
    for (low, low_error), (high, high_error) in zip(curve, curve[1:], strict=False):
        assert high - low > 4 * (low_error**2 + high_error**2).sqrt()
    assert all(mean < evidence + 4 * error for mean, error in curve)
    assert evidence - curve[-1][0] < 0.05 < evidence - curve[0][0]


@pytest.mark.parametrize("objective, particles", [(Trace, 1), (Trace, 3), (IWAE, 3)])
def test_shared_site_with_its_posterior_gives_the_evidence(shared, stories, objective, particles):
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    bound = objective(shared.model, guide, cells=shared.cells, particles=particles)
    total = bound.per_cell(**shared.batch).sum()
    assert (total - shared.model.evidence(shared.x)).abs() < 1e-8
    assert (bound(**shared.batch) * shared.cells + total).abs() < 1e-8


def minibatches(shared, size=2):
    parts = {name: column.split(size) for name, column in shared.batch.items()}
    rows = zip(*parts.values(), strict=True)
    return [dict(zip(parts, row, strict=True)) for row in rows]


@pytest.mark.parametrize("objective", [Trace, IWAE])
def test_shared_site_over_minibatches_is_unbiased(shared, stories, objective):
    """Exact conditionals: the cells of all minibatches sum to the evidence, in expectation."""
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    bound = objective(shared.model, guide, cells=shared.cells, particles=3)
    sums = [
        sum(bound.per_cell(**batch).sum() for batch in minibatches(shared)).detach()
        for _ in range(120)
    ]
    mean, error = average(torch.stack(sums))
    assert (mean - shared.model.evidence(shared.x)).abs() < 4 * error < 1


@pytest.mark.parametrize("particles", [1, 5, 100])
def test_shared_site_stays_a_bound_for_any_guide(shared, stories, particles):
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    bound = IWAE(shared.model, guide, cells=shared.cells, particles=particles)
    totals = torch.stack([bound.per_cell(**shared.batch).sum().detach() for _ in range(400)])
    mean, error = average(totals)
    evidence = shared.model.evidence(shared.x)
    assert mean < evidence + 4 * error
    ceiling = evidence - shared_gap(shared, guide)  # z costs nothing as S grows, mu does
    assert particles < 100 or (mean - ceiling).abs() < 0.2 + 4 * error


def shared_gap(shared, guide):
    q = MultivariateNormal(guide.mean, torch.diag((1.5 * guide.tril.diagonal()) ** 2))
    return torch.distributions.kl_divergence(q, shared.model.shared_posterior(shared.x)).detach()


def test_one_draw_of_a_shared_site_a_particle_would_be_no_bound(shared, stories):
    """The trap these data are made for: a mu for each particle fits each cell on its own."""
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    q = Normal(guide.mean, 10 * guide.tril.diagonal())
    mu = q.sample((100_000,))  # (S, G)
    ratio = (Normal(0.0, 1.0).log_prob(mu) - q.log_prob(mu)).sum(-1) / shared.cells
    marginal = MultivariateNormal(torch.zeros(2), shared.model.covariance())
    trap = (marginal.log_prob(shared.x[:, None] - mu) + ratio).logsumexp(-1)  # (N,)
    trap = (trap - torch.tensor(float(len(mu))).log()).sum()
    evidence = shared.model.evidence(shared.x)
    assert trap > evidence + 1
    q_wide = IWAE(shared.model, guide, cells=shared.cells, particles=50)
    guide.tril = guide.tril * 10 / 1.5
    totals = torch.stack([q_wide.per_cell(**shared.batch).sum().detach() for _ in range(200)])
    mean, error = average(totals)
    assert mean < evidence + 4 * error


def test_shared_site_is_drawn_once_for_all_particles(shared, stories):
    guide = stories.SharedMeanGuide(shared.model, shared.x)
    bound = Trace(shared.model, guide, cells=shared.cells, particles=5)
    for trace in bound.traces(shared.batch):
        assert trace.nodes["mu"]["value"].shape == (2,)
        assert trace.nodes["z"]["value"].shape == (5, 10, 1)
        assert trace.nodes["z"]["fn"].batch_shape == (5, 10)
    assert bound.per_cell(**shared.batch).shape == (10,)


def test_shared_site_costs_by_the_size_of_the_training_set(shared, stories):
    """The same draw seen as part of more cells: the shared term shrinks as 1 / N."""
    guide = stories.SharedMeanGuide(shared.model, shared.x, exact=False)
    bounds = []
    for cells in (10, 20):
        torch.manual_seed(0)
        bounds.append(Trace(shared.model, guide, cells=cells).per_cell(**shared.batch))
    torch.manual_seed(0)
    mu = Normal(guide.mean, 1.5 * guide.tril.diagonal()).sample()
    ratio = Normal(0.0, 1.0).log_prob(mu) - Normal(
        guide.mean, 1.5 * guide.tril.diagonal()
    ).log_prob(mu)
    assert torch.allclose(bounds[0] - bounds[1], ratio.sum() * (1 / 10 - 1 / 20), atol=1e-12)
