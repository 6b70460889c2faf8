r"""A network that takes noise off:  x0(x_t, t, c) = E[x_0 | x_t, c].

Everything else follows from it:

    eps   = (x_t - alpha x0) / sigma             what was added
    score = -eps / sigma                         the gradient of log p_t (Tweedie)

What the network F gives is a choice; each is a function (F, x_t, alpha, sigma) -> x0:

    epsilon    F = eps
    clean      F = x0
    velocity   F = alpha eps - sigma x0
    karras     F = (x0 - alpha x_t / r^2) r / sigma,   r^2 = alpha^2 + sigma^2

The last is EDM's, for data of standard deviation 1: the target has that too at every t. On a
variance-preserving path it is minus the velocity. F sees x_t / r and log(sigma / alpha) / 40.

The loss is denoising score matching, w(t) |x0 - x_0|^2 with t >= least. The score's lambda =
sigma^2 means w = alpha^2 / sigma^2 (`score_weight`); EDM's is 1 + alpha^2 / sigma^2.

Vincent, 2011, https://doi.org/10.1162/NECO_a_00142
Salimans and Ho, ICLR 2022, https://arxiv.org/abs/2202.00512 (velocity)
Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364 (EDM)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .noise import Noise

LEVEL = 40.0  # log(sigma / alpha) a unit of network time: its fastest wave spans 1/4 of a log


def epsilon(told: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 where the network tells the noise."""
    return (x - sigma * told) / alpha


def clean(told: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 as the network tells it."""
    return told


def velocity(told: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 where the network tells the velocity."""
    return (alpha * x - sigma * told) / (alpha**2 + sigma**2)


def karras(told: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 by EDM's skip and scales."""
    r = torch.hypot(alpha, sigma)
    return alpha * x / r**2 + sigma / r * told


def score_weight(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Of the score's lambda = sigma^2."""
    return (alpha / sigma) ** 2


def karras_weight(alpha: Tensor, sigma: Tensor) -> Tensor:
    """EDM's."""
    return 1 + (alpha / sigma) ** 2


class Denoiser(nn.Module):
    """x0 (N, D) of x (N, D) at t (N,) or (), under condition c (N, C) or none.

    `network(x, t, c, drop)` is a `FiLMNetwork` or alike. While it learns, a share `dropout` of
    conditions is withheld, so that it also knows what no condition means.
    """

    def __init__(
        self,
        network: nn.Module,
        noise: Noise,
        *,
        read: Callable = karras,
        weight: Callable = karras_weight,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.noise, self.read = network, noise, read
        self.weight, self.dropout = weight, dropout

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, each (N, 1)."""
        t = t.reshape(-1, 1)
        return self.noise.alpha(t), self.noise.sigma(t)

    def forward(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        alpha, sigma = self.levels(t)
        level = (sigma / alpha).log().squeeze(-1) / LEVEL
        told = self.network(x / torch.hypot(alpha, sigma), level, c, drop)
        return self.read(told, x, alpha, sigma)

    def epsilon(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        alpha, sigma = self.levels(t)
        return (x - alpha * self(x, t, c)) / sigma

    def score(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        _, sigma = self.levels(t)
        return -self.epsilon(x, t, c) / sigma

    def loss(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(N,) of clean states z (N, D), each at a time of its own."""
        t = self.noise.draw(len(z)).to(z)
        alpha, sigma = self.levels(t)
        x = alpha * z + sigma * torch.randn_like(z)
        drop = torch.rand_like(t) < self.dropout
        apart = (self(x, t, c, drop) - z) ** 2
        return (self.weight(alpha, sigma) * apart).sum(-1)
