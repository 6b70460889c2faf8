"""Solvers, their densities and the divergence, against what is known in closed form."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from pgm_expr.flow import ContinuousFlow, FlowMatching, dopri5, euler, midpoint, ode, rk4
from pgm_expr.nn.divergence import ways, with_divergence

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def matrix():
    """Its trace is far from 0, so that a wrong sign is seen."""
    return torch.tensor([[0.8, -0.5, 0.1], [0.3, 0.4, 0.2], [-0.2, 0.6, 0.5]])


class Linear(nn.Module):
    """dx/dt = A x, whatever the time and condition."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, x, t, c=None):
        return x @ self.matrix.T


@pytest.mark.parametrize("kind", [ContinuousFlow, FlowMatching])
@pytest.mark.parametrize("exact", [32, 0], ids=["exact", "signs"])
def test_the_density_of_a_linear_flow_is_known(kind, exact, matrix):
    """x_1 = exp(A) x_0, so its covariance is exp(A) exp(A)' and log det dx_1 / dx_0 = tr A."""
    torch.manual_seed(0)
    flow = kind(3)
    flow.network = Linear(matrix)
    (
        flow.mean.copy_(torch.tensor([1.0, -2.0, 0.5])),
        flow.scale.copy_(torch.tensor([2.0, 0.5, 1.0])),
    )
    way = flow.scale.diag() @ torch.matrix_exp(matrix)
    z = flow.mean + torch.randn(20, 3)
    truth = MultivariateNormal(flow.mean, way @ way.T).log_prob(z)
    error = flow.log_prob(z, exact=exact, probes=400) - truth
    # signs miss tr A by |off-diagonal of A + A'| / 20 / sqrt(2) = .03 a cell; 6e-7 beyond 5 sd
    assert error.abs().max() < (1e-4 if exact else 0.15)
    assert error.mean().abs() < (1e-4 if exact else 0.15 / 20**0.5)


def test_training_sees_the_same_density(matrix):
    flow = ContinuousFlow(2, solver_steps=20)
    flow.network = Linear(matrix[:2, :2])
    x = torch.randn(10, 2)
    assert torch.allclose(-flow.loss(x), flow.log_prob(x), atol=1e-4)


def test_signs_estimate_a_divergence_without_bias():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    x = torch.randn(3, 4)
    truth = torch.stack([torch.autograd.functional.jacobian(network, row).trace() for row in x])
    v, axes = with_divergence(network, x, ways(x))
    assert torch.equal(v, network(x)) and torch.allclose(axes, truth)
    each = torch.stack(
        [with_divergence(network, x, ways(x, exact=0, probes=1))[1] for _ in range(400)]
    )
    error = each.std(0) / 400**0.5
    assert (error > 0).all() and ((each.mean(0) - truth).abs() < 5 * error).all()


def test_all_signs_together_are_exact():
    """The mean over all 2^D signs has no variance left."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(5, 3)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).unsqueeze(1) / 8**0.5
    exact, every = (with_divergence(network, x, each)[1] for each in (ways(x), signs))
    assert torch.allclose(exact, every)


def test_a_divergence_has_gradients_only_where_they_are_wanted():
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    x = torch.randn(4, 2)
    _, total = with_divergence(lambda y: weight * y**2, x, ways(x))
    (slope,) = torch.autograd.grad(total.sum(), weight)
    assert torch.allclose(slope, 2 * x.sum(0)) and not x.requires_grad
    with torch.no_grad():
        out, total = with_divergence(lambda y: weight * y**2, x, ways(x))
    assert not out.requires_grad and not total.requires_grad


def error(solver, steps):
    """Of dx/dt = 2 t x, where x_1 = x_0 e."""
    x = torch.tensor([[1.0], [-2.0]])
    found = ode.push(lambda t, x: 2 * t * x, x, solver, steps)
    return (found - x * math.e).abs().max().item()


@pytest.mark.parametrize("solver, order", [(euler, 1), (midpoint, 2), (rk4, 4)])
def test_halving_a_step_divides_the_error_by_two_to_the_order(solver, order):
    orders = [math.log2(error(solver, n) / error(solver, 2 * n)) for n in (40, 80)]
    assert orders == pytest.approx([order] * 2, abs=0.15)


def test_a_path_of_no_steps_is_refused():
    """It would give back the start as if it had been solved."""
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        error(rk4, 0)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_dopri5_keeps_its_tolerance(tolerance):
    assert error(partial(dopri5, tolerance=tolerance), 0) < 10 * tolerance


def test_one_far_cell_among_many_is_solved_as_well():
    """A mean error over cells would hide it."""
    x = torch.zeros(1000, 1)
    x[0] = 1.0
    found = ode.push(lambda t, x: 2 * t * x, x, partial(dopri5, tolerance=1e-6))
    assert abs(found[0] - math.e) < 1e-5
