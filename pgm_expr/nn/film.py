r"""A residual network of a state, a time and a condition, for diffusion and flows.

    e    = embed(t) + embed(c)                     embedding of time and condition, (N, H)
    h   <- h + W' silu((1 + a(e)) norm(W h) + b(e))   each block: FiLM of a hidden layer
    out  = V norm(h)                               V starts at 0

A missing condition has a learned embedding, so that it differs from every value of c.

Perez et al., FiLM, AAAI 2018, https://arxiv.org/abs/1709.07871
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

SLOWEST, FASTEST = 1.0, 1000.0  # angular frequencies of the embedding of a time of order 1


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time at geometric frequencies, and a hidden layer.

    Frequencies suit times in [0, 1] and logs of noise levels: lower ones would make the sines of
    such times nearly linear. Called with t (N,) or (), returns (N, H).

    Parameters
    ----------
    hidden
        Size H of the embedding.
    frequencies
        Number of frequencies.

    Examples
    --------
    >>> import torch
    >>> TimeEmbedding(hidden=16)(torch.rand(5)).shape
    torch.Size([5, 16])
    """

    rates: Tensor

    def __init__(self, hidden: int, frequencies: int = 32) -> None:
        super().__init__()
        rates = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), frequencies)
        self.register_buffer("rates", rates)
        self.read = nn.Sequential(nn.Linear(2 * frequencies, hidden), nn.SiLU())

    def waves(self, t: Tensor) -> Tensor:
        """Sines and cosines (N, 2 F) of t (N,)."""
        angles = t.reshape(-1, 1) * self.rates
        return torch.cat([angles.sin(), angles.cos()], -1)

    def forward(self, t: Tensor) -> Tensor:
        return self.read(self.waves(t))


class FiLMNetwork(nn.Module):
    """Residual blocks of a state, modulated by a time and a condition.

    Called with state x (N, D), time t (N,) or (), condition c (N, C) or None, and `drop` (N,),
    True where a condition is treated as missing; returns (N, D), which is 0 at the start.

    Parameters
    ----------
    size
        Dimensions D of a state.
    conditions
        Number of encoded conditions C; 0 for none.
    hidden
        Width H of the blocks.
    layers
        Number of blocks.

    References
    ----------
    Perez et al., FiLM, AAAI 2018, https://arxiv.org/abs/1709.07871

    Examples
    --------
    >>> import torch
    >>> network = FiLMNetwork(size=3, conditions=2)
    >>> network(torch.randn(5, 3), torch.rand(5), torch.eye(2)[[0, 1, 0, 1, 1]]).shape
    torch.Size([5, 3])
    """

    def __init__(self, size: int, conditions: int = 0, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.time = TimeEmbedding(hidden)
        self.condition = nn.Linear(conditions, hidden) if conditions else None
        self.none = nn.Parameter(torch.randn(hidden) / math.sqrt(hidden))
        self.start = nn.Linear(size, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(layers))
        last = nn.Linear(hidden, size)
        nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
        self.end = nn.Sequential(nn.LayerNorm(hidden), last)

    def forward(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        e = self.time(t) + self._embedded(c, drop)  # (N, H)
        h = self.start(x)
        for block in self.blocks:
            h = block(h, e)
        return self.end(h)

    def _embedded(self, c: Tensor | None, drop: Tensor | None) -> Tensor:
        if c is None or self.condition is None:
            return self.none
        given = self.condition(c)
        return given if drop is None else torch.where(drop.unsqueeze(-1), self.none, given)


class _Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.film = nn.Linear(hidden, 2 * hidden)
        nn.init.zeros_(self.film.weight), nn.init.zeros_(self.film.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e).chunk(2, -1)
        return h + self.outer(silu((1 + scale) * self.norm(self.inner(h)) + shift))
