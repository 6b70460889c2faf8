"""Draws and expected expression of a story whose compositions are planted."""

import numpy as np
import pytest
import torch
from torch import nn

from pgm_expr.guides import VAEGuide
from pgm_expr.models import VAE
from pgm_expr.parts import PoissonCounts, ZeroInflatedNB
from pgm_expr.predict import draw_posterior, draw_prior, normalized_expression

GENES, LATENT, CELLS = 8, 2, 4000


@pytest.fixture
def make():
    """A VAE, and a guide that sends every cell to z = (2, 0), scale as good as none."""

    def build(likelihood=None):
        torch.manual_seed(0)
        sizes = dict(genes=GENES, latent=LATENT, hidden=16)
        model = VAE(**sizes, likelihood=likelihood, decoder_dropout=0.5)
        guide = VAEGuide(**sizes, encoder_dropout=0.5)
        with torch.no_grad():
            for parameter in guide.posterior.parameters():
                parameter.zero_()
            guide.posterior.loc.bias.copy_(torch.tensor([2.0, 0.0]))
            guide.posterior.raw_scale.bias.fill_(-20.0)
            for p in model.decode.parameters():
                p.mul_(3)  # far from flat
        return model.train(), guide.train()

    return build


@pytest.fixture
def batches():
    """Two parts, libraries from 50 to 500, counts all in the first gene."""
    library = torch.linspace(50, 500, CELLS).view(-1, 1)
    x = torch.cat([library, torch.zeros(CELLS, GENES - 1)], 1)
    return [{"x": x[rows], "library": library[rows]} for rows in (slice(1500), slice(1500, CELLS))]


def composition(model, z):
    """softmax(decode(z)) of an average cell that is flat, without dropout."""
    with torch.no_grad():
        return model.eval().decode(z).double().softmax(-1).numpy()


def libraries(batches):
    return torch.cat([batch["library"] for batch in batches]).numpy()


# 8 genes at 4.5 standard errors over 4,000 cells: fails for 1 seed in 18,000.
def near(draws, expected):
    """Whether draws (N, G) have the expected means (N, G) in standard errors by gene."""
    gap = draws.numpy() - expected
    return (np.abs(gap.mean(0)) < 4.5 * gap.std(0) / len(gap) ** 0.5).all()


def test_prior_draws_have_the_mean_of_the_story(make, batches):
    """E[x] = library E[composition(z)]: the inner mean over a million other z."""
    model, _ = make()
    torch.manual_seed(1)
    draws = draw_prior(model, batches)
    assert draws.shape == (CELLS, GENES) and torch.equal(draws, draws.round())
    noise = np.random.default_rng(2).standard_normal((200_000, LATENT)).astype(np.float32)
    average = composition(model, torch.from_numpy(noise)).mean(0)
    assert near(draws, libraries(batches) * average)
    assert not near(draws, libraries(batches) / GENES)


@pytest.mark.parametrize("likelihood", [None, PoissonCounts(GENES), ZeroInflatedNB(GENES)])
def test_posterior_draws_follow_the_guide(make, batches, likelihood):
    """They are new counts at the guide's z, not the counts observed, nor draws of the prior."""
    model, guide = make(likelihood)
    torch.manual_seed(1)
    draws = draw_posterior(model, guide, batches)
    kept = 1 - 1 / (1 + np.exp(3)) if isinstance(likelihood, ZeroInflatedNB) else 1.0
    exact = composition(model, torch.tensor([2.0, 0.0]))
    assert draws.shape == (CELLS, GENES) and torch.equal(draws, draws.round())
    assert near(draws, kept * libraries(batches) * exact)
    assert not near(draw_prior(model, batches), kept * libraries(batches) * exact)


@pytest.mark.parametrize("library", [1.0, 1e4])
def test_normalized_expression_is_the_composition_times_the_library(make, batches, library):
    model, guide = make()
    expected = normalized_expression(model, guide, batches, library=library, draws=3)
    exact = library * composition(model, torch.tensor([2.0, 0.0]))
    assert expected.shape == (CELLS, GENES)
    assert np.allclose(expected.numpy(), exact, rtol=5e-3)
    assert np.allclose(expected.sum(1), library, rtol=1e-5)


def test_normalized_expression_averages_over_the_posterior(make, batches):
    """A wide q: the mean of compositions, which is not the composition of the mean."""
    model, guide = make()
    guide.posterior.raw_scale.bias.data.fill_(1.0)
    torch.manual_seed(1)
    (batch, _) = batches
    few = {key: value[:40] for key, value in batch.items()}
    expected = normalized_expression(model, guide, [few], draws=400).double().numpy()
    scale = np.log1p(np.e) + 1e-4
    noise = np.random.default_rng(2).standard_normal((200_000, LATENT)) * scale + [2.0, 0.0]
    exact = composition(model, torch.from_numpy(noise.astype(np.float32))).mean(0)
    gap = expected - exact
    assert (np.abs(gap.mean(0)) < 4.5 * gap.std(0) / 40**0.5).all()
    wrong = expected - composition(model, torch.tensor([2.0, 0.0]))
    assert (np.abs(wrong.mean(0)) > 4.5 * wrong.std(0) / 40**0.5).any()


class Watched(nn.Module):
    """A guide that notes the libraries it is given."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.seen = guide, []

    def forward(self, library, x):
        self.seen.append(library)
        return self.guide(library, x)


def test_the_guide_sees_the_cell_as_it_is(make, batches):
    """A common library is asked of the model alone; encoding uses each cell's own."""
    model, guide = make()
    guide = Watched(guide)
    normalized_expression(model, guide, batches[:1], library=7.0, draws=2)
    assert len(guide.seen) == 2
    assert all(torch.equal(one, batches[0]["library"]) for one in guide.seen)


def test_twice_the_library_is_twice_the_expression(make, batches):
    """Entry by entry: the latents drawn are the same at every library."""
    model, guide = make(PoissonCounts(GENES))
    with torch.no_grad():
        guide.posterior.raw_scale.bias.fill_(0.0)
    few = [{key: value[:5] for key, value in batch.items()} for batch in batches]
    once, twice = (normalized_expression(model, guide, few, library=size) for size in (1.0, 2.0))
    assert torch.allclose(2 * once, twice, rtol=1e-5)
