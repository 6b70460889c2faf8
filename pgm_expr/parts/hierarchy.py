r"""Levels of latent states: one given the level above, and what two levels say of it together."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Lift(nn.Module):
    r"""p(y | z) = Normal(weights z, diag(1 - |weights_s|^2)): factor analysis of the level below.

    Where z ~ Normal(0, I), each y_s is standard normal again, so that its decoder sets its size:
    weights_sd is the correlation of y_s with z_d, and |weights_s|^2 the share of y_s that z tells.
    Of `free` further y, the last ones, z tells nothing.
    call(z (..., D)) -> event shape (S,).
    """

    def __init__(self, latent: int, outputs: int, free: int = 0) -> None:
        super().__init__()
        self.slope = nn.Parameter(0.3 * torch.randn(outputs, latent))  # in units of the rest
        self.free = free

    @property
    def rest(self) -> Tensor:
        """Standard deviation of what z does not tell of each y_s, (S,)."""
        return pad((1 + self.slope.square().sum(-1)).rsqrt(), (0, self.free), value=1.0)

    @property
    def weights(self) -> Tensor:
        """Correlations of y and z, (S, D)."""
        return pad(self.slope, (0, 0, 0, self.free)) * self.rest.unsqueeze(-1)

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        return dist.Normal(z @ self.weights.T, self.rest).to_event(1)


def product(*normals: dist.TorchDistribution) -> dist.TorchDistribution:
    """The normal whose density is proportional to the product of some, each of event shape (S,).

    Precisions add up, and means are weighted by them.
    """
    precisions = [normal.variance.reciprocal() for normal in normals]
    total = sum(precisions)
    weighted = sum(p * normal.mean for p, normal in zip(precisions, normals, strict=True))
    return dist.Normal(weighted / total, total.rsqrt()).to_event(1)
