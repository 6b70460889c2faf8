"""The sleep phase: moments are matched, the story stays, what cannot be is refused."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgm_expr import zoo
from pgm_expr.inference import Trace, sleep


def repeated(batch):
    while True:
        yield batch


@pytest.fixture
def cells():
    return {"library": torch.ones(256, 1), "x": torch.zeros(256, 6)}


def test_a_diagonal_guide_ends_at_the_posterior_means_and_deviations(ppca, cells):
    """A bound would end at 1 / sqrt(precision), which is narrower."""
    guide = ppca.guide.match(ppca.model, width=0.3)
    guide.loc.weight.data += 0.1 * torch.randn_like(guide.loc.weight)
    losses = [*sleep(ppca.model, guide, repeated(cells), 600, learning_rate=0.05)]
    sd = ppca.model.precision().inverse().diagonal().sqrt()
    assert torch.allclose(guide.log_scale.exp(), sd, rtol=0.02)
    assert torch.allclose(guide.loc.weight, ppca.model.gain(), atol=0.02)
    assert len(losses) == 600 and sum(losses[-100:]) < sum(losses[:100])


def test_the_loss_is_the_cross_entropy_of_the_posterior(ppca, stories, cells):
    """-E log q(z*) of the exact posterior is its entropy, whatever the cell."""
    entropy = 1.5 * math.log(2 * math.pi * math.e) - 0.5 * ppca.model.precision().logdet().item()
    guide = Free(stories.ExactGuide(ppca.model))
    losses = torch.tensor([*sleep(ppca.model, guide, repeated(cells), 60, learning_rate=0.0)])
    assert losses.mean().item() == pytest.approx(entropy, abs=4 * losses.std().item() / 60**0.5)


class Free(nn.Module):
    """A guide, times a parameter that is 1."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.one = guide, nn.Parameter(torch.ones(()))

    def forward(self, library, x=None):
        self.guide(library, x * self.one)


def test_the_story_stays_and_counts_are_not_looked_at(pair, table):
    model, guide = pair()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = table.rows(torch.arange(32))
    first = [*sleep(model, guide, repeated(batch), 5)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model, guide = pair()
    again = [*sleep(model, guide, repeated(batch | {"x": 0 * batch["x"] + 3}), 5)]
    assert first == again and not guide.training


def test_noise_is_seeded_and_the_callers_generator_is_left(pair, table):
    batch, losses, drawn = table.rows(torch.arange(32)), [], []
    for seed in (0, 0, 1):
        halves = pair()
        torch.manual_seed(5)
        losses.append([*sleep(*halves, repeated(batch), 3, seed=seed)])
        drawn.append(torch.rand(()).item())
    assert losses[0] == losses[1] != losses[2]
    assert drawn[0] == drawn[1] == drawn[2]


def test_a_prior_made_of_the_guide_is_refused(table):
    story = zoo.story("vae")
    dims = {"genes": 12, "examples": table.columns["x"]}
    model, guide = zoo.build(story, dims, prior="vamp", latent=2, hidden=8)
    with pytest.raises(ValueError, match="would move the prior of VAE"):
        next(sleep(model, guide, repeated(table.rows(torch.arange(8))), 1))


class Kinds(nn.Module):
    """y ~ Bernoulli(.3), x ~ Poisson(1 or 3): a discrete state."""

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            y = pyro.sample("y", dist.Bernoulli(torch.full((len(library),), 0.3)))
            return pyro.sample("x", dist.Poisson(1 + 2 * y[:, None]).to_event(1), obs=x)


class KindsGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            logits = self.weight * x[:, 0] + self.bias
            pyro.sample("y", dist.Bernoulli(logits=logits), infer={"enumerate": "parallel"})


def test_a_discrete_state_is_learnt(float64):
    """log odds are x log 3 - 2 + log(.3 / .7)."""
    guide, batch = KindsGuide(), {"library": torch.ones(512, 1), "x": torch.zeros(512, 1)}
    for _ in sleep(Kinds(), guide, repeated(batch), 700, learning_rate=0.1):
        pass
    assert guide.weight.item() == pytest.approx(math.log(3), rel=0.1)
    assert guide.bias.item() == pytest.approx(-2 + math.log(0.3 / 0.7), rel=0.1)


def test_shared_sites_are_held_and_not_trained(shared, stories):
    guide = Free(stories.SharedMeanGuide(shared.model, shared.x, exact=False))
    losses = [*sleep(shared.model, guide, repeated(shared.batch), 20, learning_rate=0.0)]
    bound = Trace(shared.model, guide, cells=10)
    assert all(math.isfinite(loss) for loss in losses) and bound(**shared.batch).isfinite()
