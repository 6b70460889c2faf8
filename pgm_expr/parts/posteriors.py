"""Posteriors q(z | x): modules that turn an encoder's features into a distribution of z."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import softplus


class DiagonalNormal(nn.Module):
    """q(z | h) = Normal(loc(h), scale(h)^2), independent dimensions.

    call(features (..., hidden)) -> event shape (D,); scale is a standard deviation, above 1e-4.
    """

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.loc = nn.Linear(hidden, latent)
        self.raw_scale = nn.Linear(hidden, latent)

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        scale = softplus(self.raw_scale(features)) + 1e-4
        return dist.Normal(self.loc(features), scale).to_event(1)
