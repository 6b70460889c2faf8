"""The network of generators, and how it learns from draws."""

import pytest
import torch

from pgm_expr.nn import FiLMNetwork, TimeEmbedding, learn


def test_times_in_the_unit_interval_are_told_apart():
    waves = TimeEmbedding(8).waves(torch.linspace(0, 1, 200)).double()
    values = torch.linalg.svdvals(waves - waves.mean(0))
    assert (values > 0.01 * values[0]).sum() >= 8


def test_an_unscaled_embedding_would_not():
    """What is avoided: frequencies of at most 1 move a line."""
    rates = torch.logspace(-4, 0, 32)
    angles = torch.linspace(0, 1, 200)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], -1).double()
    values = torch.linalg.svdvals(waves - waves.mean(0))
    assert (values > 0.01 * values[0]).sum() <= 3


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = FiLMNetwork(3, conditions=2, hidden=16)
    for parameter in made.parameters():  # those that start at zero too
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def test_a_missing_condition_is_none_of_its_values(network):
    x, c = torch.randn(5, 3), torch.randn(5, 2)
    t, drop = torch.rand(5), torch.tensor([True, False, True, False, True])
    none, told, mixed = network(x, t), network(x, t, c), network(x, t, c, drop)
    assert torch.equal(mixed[drop], none[drop]) and torch.equal(mixed[~drop], told[~drop])
    assert not torch.allclose(network(x, t, 0 * c), none)


def test_one_time_serves_all_cells(network):
    x = torch.randn(4, 3)
    assert torch.allclose(network(x, torch.tensor(0.3)), network(x, torch.full((4,), 0.3)))


def test_it_starts_at_zero():
    assert (FiLMNetwork(3)(torch.randn(4, 3), torch.rand(4)) == 0).all()


class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.at = torch.nn.Parameter(torch.zeros(2))

    def loss(self, z, c):
        return ((z - self.at) ** 2).sum(-1)


def test_states_are_drawn_afresh_and_weights_averaged():
    asked = []

    def posterior():
        asked.append(torch.randn(100, 2) + torch.tensor([1.0, -2.0]))
        return asked[-1]

    module = Mean()
    losses = [
        *learn(module, module.loss, posterior, steps=1000, batch_size=25, learning_rate=0.05)
    ]
    assert len(losses) == 250 and len(asked) == 250 and not module.training
    assert not torch.equal(asked[0], asked[1])
    everything = torch.cat(asked[-125:]).mean(0)
    assert torch.allclose(module.at, everything, atol=0.1)


def test_it_is_seeded_and_leaves_the_callers_generator():
    found = []
    for seed in (0, 0, 1):
        module = Mean()
        torch.manual_seed(3)
        losses = [*learn(module, module.loss, lambda: torch.randn(10, 2), steps=3, seed=seed)]
        found.append((losses, torch.rand(()).item()))
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] == found[2][1]


def test_conditions_go_with_their_cells():
    z = torch.arange(12.0)[:, None]
    seen = []

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Parameter(torch.zeros(()))

    module = Module()

    def loss(states, told):
        seen.append(torch.equal(2 * states, told))
        return states[:, 0] * module.one

    assert [*learn(module, loss, lambda: z, 2 * z, steps=5, batch_size=4)] and all(seen)
