r"""Solvers that follow a velocity from noise at t = 0 to states at t = 1, and back.

    dx/dt = v(x, t),  x_0 ~ Normal(0, I)
    log p(x_1) = log Normal(x_0; 0, I) - int_0^1 div v(x_t, t) dt

A solver is a function (v, x, ends, steps) -> x at ends[1]; v takes (t, x) as in torchdiffeq.

    order   1   euler
            2   midpoint, two evaluations of v a step
            4   rk4, four
            5   dopri5, with adaptive steps

Chen et al., Neural ODEs, NeurIPS 2018, https://arxiv.org/abs/1806.07366
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torchdiffeq import odeint

from ..nn.divergence import with_divergence

State = TypeVar("State", Tensor, tuple[Tensor, ...])  # (N, D), or several tensors of N rows
Velocity = Callable[[Tensor, Tensor], Tensor]  # t (), x (N, D) -> dx/dt (N, D)


class Solver(Protocol):
    """(v, x, ends, steps) -> x at ends[1], where x is the state at ends[0]."""

    def __call__(
        self, v: Callable[[Tensor, State], State], x: State, ends: Tensor, steps: int, /
    ) -> State: ...


def euler(v: Callable[[Tensor, State], State], x: State, ends: Tensor, steps: int = 100) -> State:
    """Euler's method, of order 1.

    Parameters
    ----------
    v
        Velocity, a function of t () and x.
    x
        State at `ends[0]`: a tensor (N, D), or a tuple of tensors.
    ends
        First and last time, (2,).
    steps
        Number of equal steps.

    Returns
    -------
    Tensor or tuple
        State at `ends[1]`.

    Examples
    --------
    >>> import torch
    >>> x = euler(lambda t, x: -x, torch.ones(1, 1), torch.tensor([0.0, 1.0]), steps=2)
    >>> x.item()  # (1 - 1/2)^2
    0.25
    """
    return _fixed("euler", v, x, ends, steps)


def midpoint(
    v: Callable[[Tensor, State], State], x: State, ends: Tensor, steps: int = 20
) -> State:
    """The midpoint method, of order 2.

    Parameters
    ----------
    v, x, ends, steps
        See `euler`.

    Returns
    -------
    Tensor or tuple
        State at `ends[1]`.

    Examples
    --------
    >>> import torch
    >>> x = midpoint(lambda t, x: -x, torch.ones(1, 1), torch.tensor([0.0, 1.0]), steps=1)
    >>> x.item()  # 1 - 1 + 1/2
    0.5
    """
    return _fixed("midpoint", v, x, ends, steps)


def rk4(v: Callable[[Tensor, State], State], x: State, ends: Tensor, steps: int = 10) -> State:
    """The Runge-Kutta method of order 4.

    Parameters
    ----------
    v, x, ends, steps
        See `euler`.

    Returns
    -------
    Tensor or tuple
        State at `ends[1]`.

    Examples
    --------
    >>> import torch
    >>> x = rk4(lambda t, x: -x, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    >>> round(x.item(), 4)  # exp(-1)
    0.3679
    """
    return _fixed("rk4", v, x, ends, steps)


def dopri5(
    v: Callable[[Tensor, State], State],
    x: State,
    ends: Tensor,
    steps: int = 0,
    *,
    tolerance: float = 1e-5,
) -> State:
    """Dormand and Prince's method of order 5 with adaptive steps.

    The largest error over cells is controlled, not its mean, so that the result of one row
    depends less on the others.

    Parameters
    ----------
    v, x, ends
        See `euler`.
    steps
        Not used.
    tolerance
        Relative and absolute tolerance of a step.

    Returns
    -------
    Tensor or tuple
        State at `ends[1]`.

    Examples
    --------
    >>> import torch
    >>> x = dopri5(lambda t, x: -x, torch.ones(1, 1), torch.tensor([0.0, 1.0]))
    >>> round(x.item(), 4)  # exp(-1)
    0.3679
    """
    options = {"norm": _largest}
    return _last(
        odeint(v, x, ends, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    )


def push(v: Velocity, noise: Tensor, solver: Solver = dopri5, steps: int = 100) -> Tensor:
    """The states (N, D) to which noise (N, D) flows."""
    return solver(v, noise, noise.new_tensor([0.0, 1.0]), steps)


def pull(v: Velocity, x: Tensor, solver: Solver = dopri5, steps: int = 100) -> Tensor:
    """The noise (N, D) that flows to states x (N, D)."""
    return solver(v, x, x.new_tensor([1.0, 0.0]), steps)


def log_prob(
    v: Velocity, x: Tensor, ways: Tensor, solver: Solver = dopri5, steps: int = 100
) -> Tensor:
    """log p (N,) of states x (N, D), with the divergence along `ways` of `nn.divergence`.

    Time runs from 1 to 0, so the accumulated integral is minus that from 0 to 1, and is added.
    """

    def both(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return with_divergence(lambda y: v(t, y), state[0], ways)

    start: tuple[Tensor, ...] = x, x.new_zeros(len(x))
    noise, gathered = solver(both, start, x.new_tensor([1.0, 0.0]), steps)
    return torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1) + gathered


def _fixed(
    method: str, v: Callable[[Tensor, State], State], x: State, ends: Tensor, steps: int
) -> State:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    times = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps + 1).to(ends)
    return _last(odeint(v, x, times, method=method))


def _last(path: State) -> State:
    return path[-1] if isinstance(path, Tensor) else tuple(each[-1] for each in path)


def _largest(error: Tensor | tuple[Tensor, ...]) -> Tensor:
    parts = (error,) if isinstance(error, Tensor) else error
    return torch.stack([part.abs().max() for part in parts]).max()
