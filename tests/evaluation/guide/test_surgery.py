"""Where the KL goes: against integrals in one dimension, and the algebra of linear Gaussians."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pgm_expr.evaluation.guide.surgery import surgery
from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.parts import FlowPosterior, LowRankNormal

GRID = torch.linspace(-12.0, 12.0, 8001, dtype=torch.float64)


def integrals(log_q):
    """I(n; z) and KL(q(z) || N(0, 1)) of posteriors (T, N) on the grid."""
    step = GRID[1] - GRID[0]
    mixed = log_q.logsumexp(1) - math.log(log_q.shape[1])  # (T,)
    information = (log_q.exp() * (log_q - mixed[:, None])).sum(0).mean() * step
    aggregate = (mixed.exp() * (mixed - Normal(0.0, 1.0).log_prob(GRID))).sum() * step
    return information.item(), aggregate.item()


def parts(batch, *sizes):
    """A batch in minibatches of these sizes."""
    columns = [column.split(sizes) for column in batch.values()]
    return [dict(zip(batch, rows, strict=True)) for rows in zip(*columns, strict=True)]


def drawn(model, cells):
    torch.manual_seed(1)
    library = torch.ones(cells, 1)
    return {"library": library, "x": model(library=library).detach()}


def posterior_means(model, x):
    return ((x - model.mu) @ model.gain().T).detach()


@pytest.mark.parametrize("sizes", [(40,), (25, 15)], ids=["one minibatch", "two"])
def test_both_terms_are_the_integrals_of_one_dimension(float64, stories, sizes):
    """4,000 draws with deviations of about 1: a tolerance of .06 is four standard errors."""
    torch.manual_seed(0)
    model = stories.PPCA(genes=4, latent=1)
    batch = drawn(model, 40)
    scale = model.precision().inverse()[0, 0].sqrt().detach()
    log_q = Normal(posterior_means(model, batch["x"])[:, 0], scale).log_prob(GRID[:, None])
    information, aggregate = integrals(log_q)
    found = surgery(model, stories.ExactGuide(model), parts(batch, *sizes), draws=100)["z"]
    assert found.information == pytest.approx(information, abs=0.06)
    assert found.aggregate == pytest.approx(aggregate, abs=0.06)
    assert 0.05 < aggregate < 1 < information and found.cells == 40


def test_many_cells_in_one_minibatch_are_the_integrals_too(float64, stories):
    """More pairs of cells than are held at a time; four standard errors of 2,000 draws."""
    torch.manual_seed(0)
    model = stories.PPCA(genes=4, latent=1)
    batch = drawn(model, 500)
    scale = model.precision().inverse()[0, 0].sqrt().detach()
    log_q = Normal(posterior_means(model, batch["x"])[:, 0], scale).log_prob(GRID[:, None])
    found = surgery(model, stories.ExactGuide(model), [batch], draws=4)["z"]
    assert (found.information, found.aggregate) == pytest.approx(integrals(log_q), abs=0.08)


def test_the_kl_is_the_closed_form_of_gaussians(ppca, stories):
    """Mean over 40 cells of KL(N(m_n, S) || N(0, I)); 8,000 draws err by .02."""
    q = MultivariateNormal(
        posterior_means(ppca.model, ppca.x), precision_matrix=ppca.model.precision()
    )
    exact = kl_divergence(q, MultivariateNormal(torch.zeros(3), torch.eye(3))).mean().item()
    found = surgery(ppca.model, stories.ExactGuide(ppca.model), [ppca.batch], draws=200)["z"]
    assert found.kl == pytest.approx(exact, abs=0.08)


def test_information_of_a_linear_gaussian_story(ppca, stories):
    """1/2 log |I + loadings' loadings / sigma^2| under the model itself; 2,000 cells."""
    batch = drawn(ppca.model, 2000)
    guide = stories.ExactGuide(ppca.model)
    found = surgery(ppca.model, guide, parts(batch, *[500] * 4), draws=2)["z"]
    expected = ppca.model.precision().logdet().item() / 2
    assert found.information == pytest.approx(expected, abs=0.15)
    assert abs(found.aggregate) < 0.15
    assert not found.saturated


def test_a_guide_that_ignores_cells_says_nothing_of_them(ppca):
    """All posteriors are N(b, 1/4): no information, and the KL of that normal to the prior."""
    ppca.guide.loc.weight.data.zero_()
    ppca.guide.log_scale.data.fill_(math.log(0.5))
    found = surgery(ppca.model, ppca.guide, [ppca.batch], draws=200)["z"]
    q = Normal(ppca.guide.loc.bias, 0.5)
    exact = kl_divergence(q, Normal(torch.zeros(3), 1.0)).sum().item()
    assert abs(found.information) < 1e-9
    assert found.aggregate == pytest.approx(exact, abs=0.06)  # 8,000 draws err by .013


def test_cells_far_apart_are_told_by_log_of_their_number(ppca):
    """Posteriors that do not overlap: which of 40 cells it is, exactly; that is too few."""
    ppca.guide.loc.weight.data.mul_(1e3)
    ppca.guide.log_scale.data.fill_(math.log(0.01))
    found = surgery(ppca.model, ppca.guide, [ppca.batch])["z"]
    assert found.information == pytest.approx(math.log(40), abs=1e-6) and found.saturated


def test_too_few_cells_are_said_to_be_so(ppca, stories):
    """Ten cells can tell no more than log 10 nats."""
    few = {name: value[:10] for name, value in ppca.batch.items()}
    found = surgery(ppca.model, stories.ExactGuide(ppca.model), [few])["z"]
    assert found.saturated and found.information <= math.log(10) + 1e-9


@pytest.mark.parametrize("posterior", [LowRankNormal, FlowPosterior])
def test_other_posteriors_are_the_integrals_too(float64, posterior):
    """3,000 draws; their deviations are below 1."""
    torch.manual_seed(0)
    model, guide = VAE(12, latent=1, hidden=8), VAEGuide(12, latent=1, hidden=8)
    guide.posterior = posterior(8, 1)
    x = torch.poisson(torch.linspace(1, 30, 30)[:, None].expand(30, 12)) + 1
    batch = {"x": x, "library": x.sum(-1, keepdim=True)}
    with torch.no_grad():
        q = guide.eval().posterior(guide.encode(x.log1p()))
        log_q = q.log_prob(GRID[:, None, None])  # (T, N)
    found = surgery(model, guide, parts(batch, 20, 10), draws=100)["z"]
    assert (found.information, found.aggregate) == pytest.approx(integrals(log_q), abs=0.07)
    assert found.information > 0.01


def test_no_cells_are_refused(ppca):
    with pytest.raises(ValueError, match="got none. Pass a minibatch"):
        surgery(ppca.model, ppca.guide, [])
