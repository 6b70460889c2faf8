"""States of cells and back: what a generator learns is what the story decodes."""

import math
import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgm_expr import guides, models
from pgm_expr.data import Encoding
from pgm_expr.tasks import States

N, G, D = 6, 8, 3


@pytest.fixture
def batch():
    torch.manual_seed(0)
    x = torch.poisson(torch.full((N, G), 4.0))
    return {"x": x, "library": x.sum(1, keepdim=True)}


def vae():
    torch.manual_seed(0)
    made = models.VAE(G, latent=D), guides.VAEGuide(G, latent=D)
    return tuple(half.eval() for half in made)


def many(batch, times):
    return {key: value.repeat(times, 1) for key, value in batch.items()}


def test_the_library_is_the_last_column(batch):
    model, guide = vae()
    states = States.of(model, guide, batch)
    assert states.widths == {"z": D, "log_library": 1} and states.size == D + 1
    drawn = states.draw(guide, [batch, batch])
    assert drawn.shape == (2 * N, D + 1)
    torch.testing.assert_close(drawn[:N, -1:], batch["library"].log())


def test_draws_are_of_the_posterior(batch):
    model, guide = vae()
    states = States.of(model, guide, batch)
    torch.manual_seed(1)
    draws = states.draw(guide, [many(batch, 4000)])[:, :D].view(4000, N, D)
    q = guide.posterior(guide.encode(batch["x"].log1p()))
    error = q.stddev / math.sqrt(len(draws))
    assert ((draws.mean(0) - q.mean).abs() < 5 * error).all()
    torch.testing.assert_close(draws.std(0), q.stddev, rtol=0.06, atol=0)


def test_decoded_counts_have_the_mean_of_the_story(batch):
    model, guide = vae()
    states = States.of(model, guide, batch)
    state = states.draw(guide, [batch])
    torch.manual_seed(2)
    counts = states.decode(model, state.repeat(3000, 1), {}).view(3000, N, G)
    eta, library = model.decode(state[:, :D]), state[:, -1:].exp()
    truth = model.likelihood(eta, library).mean
    assert (counts == counts.round()).all() and (counts >= 0).all()
    error = counts.std(0) / math.sqrt(len(counts))
    assert ((counts.mean(0) - truth).abs() < 5 * error).all()


def test_a_library_that_the_story_infers_is_among_its_latents(batch):
    torch.manual_seed(0)
    model = models.LatentLibrary(G, latent=D).eval()
    guide = guides.LatentLibraryGuide(G, latent=D).eval()
    states = States.of(model, guide, batch)
    assert states.size == D + 1 and set(states.widths) == {"z", "log_library"}
    state = states.draw(guide, [batch])
    low, high = (states.decode(model, _deep(state, states, by), {}).sum() for by in (0.0, 3.0))
    assert high > 5 * low


def _deep(state, states, by):
    at, changed = 0, state.clone()
    for name, width in states.widths.items():
        if name == "log_library":
            changed[:, at] += by
        at += width
    return changed


class Scale(nn.Module):
    """A story with a positive latent."""

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            rate = pyro.sample("rate", dist.Gamma(library.new_full((2,), 2.0), 1.0).to_event(1))
            mean = library * torch.cat([rate, rate], -1) / 10
            return pyro.sample("x", dist.Poisson(mean).to_event(1), obs=x)


class ScaleGuide(nn.Module):
    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("rate", dist.LogNormal(x[:, :2].log1p(), 0.1).to_event(1))


def test_a_positive_latent_is_learnt_without_its_constraint(batch):
    model, guide = Scale(), ScaleGuide()
    batch = {"x": batch["x"][:, :4], "library": batch["library"]}
    states = States.of(model, guide, batch)
    torch.manual_seed(0)
    state = states.draw(guide, [batch])
    assert (state[:, :2] < 2).any() and state[:, :2].std() > 0  # logs, not rates
    torch.testing.assert_close(state[:, :2], batch["x"][:, :2].log1p(), atol=0.5, rtol=0)
    counts = states.decode(model, state.repeat(2000, 1), {}).view(2000, N, -1).mean(0)
    mean = state[:, -1:].exp() * state[:, :2].exp() / 10
    torch.testing.assert_close(counts[:, :2], mean, rtol=0.1, atol=0.3)


def test_a_discrete_latent_is_refused(batch):
    torch.manual_seed(0)
    model, guide = models.MixtureOfVAEs(G, latent=D), guides.MixtureOfVAEsGuide(G, latent=D)
    with pytest.raises(ValueError, match="discrete latent, 'regime'"):
        States.of(model, guide, batch)


def test_conditions_are_indicators_and_what_is_encoded():
    obs = pd.DataFrame(
        {
            "type": ["a", "c", None, "b"],
            "plate": ["q", "p", "q", "p"],
            "dose": [1.0, 0.0, 2.0, 1.0],
        }
    )
    arguments = {
        "labels_key": "type",
        "batch_key": "plate",
        "continuous_covariate_keys": ["dose"],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # most levels are of one cell
        encoding = Encoding.learn(obs, arguments, np.array([0, 1]))
    encoded = {key: torch.as_tensor(value) for key, value in encoding.encode(obs).items()}
    assert encoding.indicators(encoded).tolist() == [
        [1, 0, 0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0, -1, 0],
        [0, 0, 0, 0, 1, 3, 0],
        [0, 1, 0, 1, 0, 1, 0],
    ]
    assert encoding.indicators({"library": torch.ones(3, 1)}) is None
