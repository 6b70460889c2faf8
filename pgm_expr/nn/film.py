r"""A residual network of a state, a time and a condition: what diffusion and flows are made of.

    e    = embed(t) + embed(c)                     what modulates, (N, H)
    h   <- h + W' silu((1 + a(e)) norm(W h) + b(e))   each block: FiLM of a hidden layer
    out  = V norm(h)                               V starts at 0

A missing condition is a token of its own, not zeros: no level of c can be mistaken for none.

Perez et al., FiLM, AAAI 2018, https://arxiv.org/abs/1709.07871
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

SLOWEST, FASTEST = 1.0, 1000.0  # angular frequencies of the embedding of a time of order 1


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time (N,) or () at geometric frequencies, and a hidden layer: (N, H).

    Frequencies are for times in [0, 1], or logs of noise levels: unscaled ones would leave the
    sines of such times on a line.
    """

    def __init__(self, hidden: int, frequencies: int = 32) -> None:
        super().__init__()
        rates = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), frequencies)
        self.register_buffer("rates", rates)
        self.read = nn.Sequential(nn.Linear(2 * frequencies, hidden), nn.SiLU())

    def waves(self, t: Tensor) -> Tensor:
        """(N, 2 F) of t (N,)."""
        angles = t.reshape(-1, 1) * self.rates
        return torch.cat([angles.sin(), angles.cos()], -1)

    def forward(self, t: Tensor) -> Tensor:
        return self.read(self.waves(t))


class FiLMNetwork(nn.Module):
    """(N, D) of state x (N, D), time t (N,) or (), and condition c (N, C) or None for none.

    `drop` (N,) says which cells' conditions are to be taken as missing.
    """

    def __init__(self, size: int, conditions: int = 0, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.time = TimeEmbedding(hidden)
        self.condition = nn.Linear(conditions, hidden) if conditions else None
        self.none = nn.Parameter(torch.randn(hidden) / math.sqrt(hidden))
        self.start = nn.Linear(size, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(layers))
        self.end = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, size))
        nn.init.zeros_(self.end[-1].weight), nn.init.zeros_(self.end[-1].bias)

    def forward(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        e = self.time(t) + self._told(c, drop)  # (N, H)
        h = self.start(x)
        for block in self.blocks:
            h = block(h, e)
        return self.end(h)

    def _told(self, c: Tensor | None, drop: Tensor | None) -> Tensor:
        if c is None or self.condition is None:
            return self.none
        told = self.condition(c)
        return told if drop is None else torch.where(drop.unsqueeze(-1), self.none, told)


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
