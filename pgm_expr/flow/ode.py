r"""Following a velocity from noise at t = 0 to states at t = 1, and back.

    dx/dt = v(x, t),  x_0 ~ Normal(0, I)
    log p(x_1) = log Normal(x_0; 0, I) - int_0^1 div v(x_t, t) dt

A solver is a function (v, x, ends, steps) -> x at ends[1]; v takes (t, x) as in torchdiffeq.

    order   1   euler
            2   midpoint, which asks for v twice a step
            4   rk4, four times
            5   dopri5, which chooses its steps itself

Chen et al., Neural ODEs, NeurIPS 2018, https://arxiv.org/abs/1806.07366
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

from ..nn.divergence import with_divergence

State = Tensor | tuple[Tensor, ...]
Velocity = Callable[[Tensor, State], State]  # t (), x (N, D) -> dx/dt (N, D)
Solver = Callable[[Velocity, State, Tensor, int], State]


def euler(v: Velocity, x: State, ends: Tensor, steps: int = 100) -> State:
    """Order 1."""
    return _fixed("euler", v, x, ends, steps)


def midpoint(v: Velocity, x: State, ends: Tensor, steps: int = 20) -> State:
    """Order 2."""
    return _fixed("midpoint", v, x, ends, steps)


def rk4(v: Velocity, x: State, ends: Tensor, steps: int = 10) -> State:
    """Order 4."""
    return _fixed("rk4", v, x, ends, steps)


def dopri5(
    v: Velocity, x: State, ends: Tensor, steps: int = 0, *, tolerance: float = 1e-5
) -> State:
    """Dormand and Prince's adaptive steps; `steps` is not heeded.

    Each cell's error is held, not their mean, so that a row's answer hangs less on the others.
    """
    options = {"norm": _largest}
    return _last(
        odeint(v, x, ends, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    )


def push(v: Velocity, noise: Tensor, solver: Solver = dopri5, steps: int = 100) -> Tensor:
    """The states (N, D) that noise (N, D) flows to."""
    return solver(v, noise, noise.new_tensor([0.0, 1.0]), steps)


def pull(v: Velocity, x: Tensor, solver: Solver = dopri5, steps: int = 100) -> Tensor:
    """The noise (N, D) that flows to states x (N, D)."""
    return solver(v, x, x.new_tensor([1.0, 0.0]), steps)


def log_prob(
    v: Velocity, x: Tensor, ways: Tensor, solver: Solver = dopri5, steps: int = 100
) -> Tensor:
    """log p (N,) of states x (N, D), the divergence taken along `ways` of `nn.divergence`.

    Time runs from 1 to 0, so what is gathered is minus the integral from 0 to 1, and is added.
    """

    def both(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return with_divergence(lambda y: v(t, y), state[0], ways)

    start = x, x.new_zeros(len(x))
    noise, gathered = solver(both, start, x.new_tensor([1.0, 0.0]), steps)
    return torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1) + gathered


def _fixed(method: str, v: Velocity, x: State, ends: Tensor, steps: int) -> State:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    times = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps + 1).to(ends)
    return _last(odeint(v, x, times, method=method))


def _last(path: State) -> State:
    return path[-1] if isinstance(path, Tensor) else tuple(each[-1] for each in path)


def _largest(error: State) -> Tensor:
    parts = (error,) if isinstance(error, Tensor) else error
    return torch.stack([part.abs().max() for part in parts]).max()
