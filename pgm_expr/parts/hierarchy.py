r"""Levels of latent states: one level given the level above, and the product of two sources."""

from __future__ import annotations

from functools import reduce

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Lift(nn.Module):
    r"""p(y | z) = Normal(weights z, diag(1 - |weights_s|^2)): factor analysis of the level below.

    Where z ~ Normal(0, I), each y_s is marginally standard normal, so that its decoder sets its
    scale: weights_sd is the correlation of y_s with z_d, and |weights_s|^2 the share of the
    variance of y_s that z explains. Called with z (..., D), returns a distribution of batch shape
    (...) and event shape (S,).

    Parameters
    ----------
    latent
        Dimensions D of z.
    outputs
        Number of y that depend on z.
    free
        Number of further y, the last ones, that are independent of z.

    Examples
    --------
    >>> import torch
    >>> lift = Lift(latent=2, outputs=3, free=1)
    >>> lift(torch.randn(7, 2)).event_shape
    torch.Size([4])
    >>> bool((lift.weights.square().sum(-1) + lift.rest**2).allclose(torch.ones(4)))
    True
    """

    def __init__(self, latent: int, outputs: int, free: int = 0) -> None:
        super().__init__()
        self.slope = nn.Parameter(0.3 * torch.randn(outputs, latent))  # in units of `rest`
        self.free = free

    @property
    def rest(self) -> Tensor:
        """Standard deviation of each y_s given z, (S,)."""
        return pad((1 + self.slope.square().sum(-1)).rsqrt(), (0, self.free), value=1.0)

    @property
    def weights(self) -> Tensor:
        """Correlations of y and z, (S, D)."""
        return pad(self.slope, (0, 0, 0, self.free)) * self.rest.unsqueeze(-1)

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        return dist.Normal(z @ self.weights.T, self.rest).to_event(1)


def product(*normals: dist.TorchDistribution) -> dist.TorchDistribution:
    """The normal whose density is proportional to the product of several.

    Precisions add up, and means are averaged with weights proportional to them.

    Parameters
    ----------
    *normals
        Independent normals of event shape (S,) each, whose batch shapes broadcast.

    Returns
    -------
    TorchDistribution
        A normal of event shape (S,).

    Examples
    --------
    >>> import torch
    >>> wide = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> narrow = dist.Normal(torch.ones(1), 0.5).to_event(1)
    >>> product(wide, narrow).mean  # precisions 1 and 4
    tensor([0.8000])
    """
    precisions = [normal.variance.reciprocal() for normal in normals]
    total = reduce(torch.add, precisions)
    means = [normal.mean for normal in normals]
    weighted = reduce(torch.add, map(torch.mul, precisions, means))
    return dist.Normal(weighted / total, total.rsqrt()).to_event(1)
