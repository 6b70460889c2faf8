"""Heads: modules that turn a latent state into the distribution of what is known of some cells.

Their weights start at zero and take no random numbers: a story with a head starts like the same
story without.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class ClassHead(nn.Module):
    """p(label | z) = Categorical(softmax(weight z + bias)): call(z (..., D)) -> K classes."""

    def __init__(self, latent: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(labels, latent))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=z @ self.weight.T + self.bias)


class ValueHead(nn.Module):
    """p(target | z) = Normal(weight z + bias, scale^2): call(z (..., D)) -> event shape (1,)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, latent))
        self.bias = nn.Parameter(torch.zeros(1))
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        loc = z @ self.weight.T + self.bias  # (..., 1)
        return dist.Normal(loc, self.log_scale.exp()).to_event(1)
