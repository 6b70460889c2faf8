"""Guidance, and what only matching can: draws under no condition."""

import pytest
import torch

from pgm_expr.flow import FlowMatching, dopri5, euler, midpoint, rk4
from pgm_expr.flow.matching import SLOW


@pytest.fixture
def flow():
    torch.manual_seed(0)
    made = FlowMatching(2, 1, hidden=16)
    for parameter in made.parameters():  # those that start at zero too
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture
def start():
    torch.manual_seed(1)
    return torch.randn(50, 2), torch.randn(50, 1)


def test_guidance_of_none_and_of_one_are_exact(flow, start):
    u, c = start
    how = dict(solver=midpoint, steps=5)
    assert torch.equal(flow.decode(u, c, guidance=0, **how), flow.decode(u, **how))
    t = torch.tensor(0.4)
    assert torch.equal(flow.velocity(u, t, c, 1), flow.network(u, SLOW * t, c))
    assert torch.equal(flow.velocity(u, t, c, 0), flow.network(u, SLOW * t))
    assert not torch.allclose(flow.decode(u, **how), flow.decode(u, c, **how))
    assert torch.equal(flow.log_prob(u, c, guidance=0), flow.log_prob(u))


def test_guidance_is_a_line_between_velocities(flow, start):
    u, c = start
    none, told, more = (flow.velocity(u, torch.tensor(0.4), c, w) for w in (0, 1, 2.5))
    assert torch.allclose(more, none + 2.5 * (told - none), atol=1e-6)


def test_solvers_agree(flow, start):
    u, c = start
    truth = flow.decode(u, c, solver=dopri5)
    for solver, steps in ((euler, 400), (midpoint, 40), (rk4, 20)):
        assert torch.allclose(flow.decode(u, c, solver=solver, steps=steps), truth, atol=1e-2)
    density = flow.log_prob(u, c)
    assert torch.allclose(flow.log_prob(u, c, solver=rk4, steps=20), density, atol=2e-3)
    assert torch.allclose(flow.encode(truth, c, solver=rk4), u, atol=2e-3)


def test_sampling_takes_its_steps_and_solver(flow):
    asked = []

    def watch(v, x, ends, steps):
        asked.append((steps, ends.tolist()))
        return x

    flow.sample(3, steps=7, solver=watch)
    assert asked == [(7, [0, 1])]


def test_without_condition_draws_are_of_the_mix():
    """Half of the cells at -2 and half at 2, told apart by the condition."""
    torch.manual_seed(0)
    label = torch.arange(512) % 2
    flow = FlowMatching(1, 1, hidden=32, layers=2, dropout=0.3)
    c, at = label[:, None].float(), 4.0 * label[:, None] - 2
    list(flow.fit(lambda: at + 0.3 * torch.randn(512, 1), c, steps=250, learning_rate=5e-3))
    mixed = flow.sample(2000)
    assert 0.4 < (mixed > 0).float().mean() < 0.6 and (mixed.abs() < 1).float().mean() < 0.1
    assert (flow.sample(2000, torch.ones(2000, 1)) > 0).float().mean() > 0.98
    assert (flow.sample(2000, torch.zeros(2000, 1)) > 0).float().mean() < 0.02
