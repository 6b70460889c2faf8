r"""Noise on counts in steps t = 1 .. T: Markov chains over states, in closed form.

    q(x_t | x_{t-1})      = Q_t[x_{t-1}, x_t]                 rows sum to 1
    q(x_t | x_0)          = Qbar_t[x_0, x_t],                 Qbar_t = Q_1 Q_2 ... Q_t
    q(x_{t-1} | x_t, x_0) ~ Q_t[x_{t-1}, x_t] Qbar_{t-1}[x_0, x_{t-1}]

Absorbing: a count becomes masked, an additional state, and stays so; by t a share t / T has.

    Q_t    = (1 - b_t) I + b_t 1 e_mask',                     b_t = 1 / (T - t + 1)
    Qbar_t = (1 - t / T) I + t / T 1 e_mask'

Ordinal: a count moves to its neighbours until it is uniform. R is the generator of a random walk
that is reflected at both ends; exp(s R) is the discrete Gaussian of variance 2 s in between. It is
symmetric, so that columns sum to 1 as rows do, and the stationary distribution is uniform.

    Qbar_t = exp(s_t R) = V exp(s_t L) V'                     s_t geometric, s_0 = 0
    Q_t    = exp((s_t - s_{t-1}) R)
    V[i, k] ~ cos(pi k (i + 1/2) / K),  L_k = -4 sin^2(pi k / 2 K)

(Austin et al. truncate a Gaussian density instead; its products have no closed form.)

Austin et al., NeurIPS 2021, https://arxiv.org/abs/2107.03006
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Kernel(Protocol):
    """A chain over `states` states in `times` steps; the first `levels` states are counts."""

    @property
    def levels(self) -> int: ...

    @property
    def times(self) -> int: ...

    @property
    def states(self) -> int: ...

    def step(self, t: Tensor) -> Tensor:
        """Q_t, (..., S, S), for whole t (...) from 1."""

    def upto(self, t: Tensor) -> Tensor:
        """Qbar_t, (..., S, S), for whole t (...) from 0."""

    def end(self) -> Tensor:
        """The stationary distribution, (S,)."""


@dataclass(frozen=True)
class Absorbing:
    """A count becomes masked, with probability t / T by step t.

    Parameters
    ----------
    levels
        Number of counts, 0 .. levels - 1; the mask is one state more.
    times
        Number of steps T.

    References
    ----------
    Austin et al., NeurIPS 2021, https://arxiv.org/abs/2107.03006

    Examples
    --------
    >>> import torch
    >>> Absorbing(levels=2, times=4).upto(torch.tensor(1))
    tensor([[0.7500, 0.0000, 0.2500],
            [0.0000, 0.7500, 0.2500],
            [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """

    levels: int
    times: int = 100

    @property
    def states(self) -> int:
        return self.levels + 1

    def end(self) -> Tensor:
        return torch.eye(self.states, dtype=torch.float64)[-1]

    def step(self, t: Tensor) -> Tensor:
        return self._masked(1 / (self.times - t.double() + 1))

    def upto(self, t: Tensor) -> Tensor:
        return self._masked(t.double() / self.times)

    def _masked(self, share: Tensor) -> Tensor:
        share, stay = share[..., None, None], torch.eye(self.states, dtype=torch.float64)
        return (1 - share) * stay + share * self.end()


@dataclass(frozen=True)
class Ordinal:
    """A count moves to its neighbours, by a reflected random walk.

    Parameters
    ----------
    levels
        Number of counts K, 0 .. K - 1.
    times
        Number of steps T.
    first
        s_1: about a share 2 s_1 of counts has moved.
    last
        s_T / K^2: the slowest mode has shrunk to exp(-pi^2 `last`).

    Examples
    --------
    >>> import torch
    >>> chain = Ordinal(levels=3, times=4)
    >>> chain.upto(torch.tensor(4)).round(decimals=1)  # nearly uniform
    tensor([[0.3000, 0.3000, 0.3000],
            [0.3000, 0.3000, 0.3000],
            [0.3000, 0.3000, 0.3000]], dtype=torch.float64)
    """

    levels: int
    times: int = 100
    first: float = 0.01
    last: float = 0.7

    @property
    def states(self) -> int:
        return self.levels

    def end(self) -> Tensor:
        return torch.full((self.levels,), 1 / self.levels, dtype=torch.float64)

    def walked(self, t: Tensor) -> Tensor:
        """s_t, the time of the random walk at step t."""
        growth = math.log(self.last * self.levels**2 / self.first) / max(self.times - 1, 1)
        return (self.first * (growth * (t.double() - 1)).exp()).where(t > 0, 0.0)

    def step(self, t: Tensor) -> Tensor:
        return self._heat(self.walked(t) - self.walked(t - 1))

    def upto(self, t: Tensor) -> Tensor:
        return self._heat(self.walked(t))

    def _heat(self, s: Tensor) -> Tensor:
        k = torch.arange(self.levels, dtype=torch.float64)
        angle = math.pi * k / self.levels
        modes = ((k + 0.5)[:, None] * angle).cos()
        modes = modes / modes.norm(dim=0)
        shrunk = (-4 * s[..., None] * (angle / 2).sin() ** 2).exp()
        return ((modes * shrunk[..., None, :]) @ modes.T).clamp_min(0)  # rounding: > -1e-16
