"""Posteriors q(z | x): modules that map an encoder's features h to a distribution of z."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform
from torch.nn.functional import softplus

from ..distributions.flow import Flow
from ..nn.invertible import ComposedTransform, affine_map, near_identity


class DiagonalNormal(nn.Module):
    """q(z | h) = Normal(loc(h), scale(h)^2), with independent dimensions.

    Called with features (..., hidden), returns a distribution of batch shape (...) and event
    shape (D,). The standard deviation is above 1e-4.

    Parameters
    ----------
    hidden
        Number of features.
    latent
        Latent dimensions D.

    Examples
    --------
    >>> import torch
    >>> q = DiagonalNormal(hidden=8, latent=3)(torch.randn(5, 8))
    >>> q.batch_shape, q.event_shape
    (torch.Size([5]), torch.Size([3]))
    """

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.loc = nn.Linear(hidden, latent)
        self.raw_scale = nn.Linear(hidden, latent)

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        scale = softplus(self.raw_scale(features)) + 1e-4
        return dist.Normal(self.loc(features), scale).to_event(1)


class LowRankNormal(nn.Module):
    """q(z | h) = Normal(loc(h), factor(h) factor(h)^T + diag(scale(h)^2)), low-rank plus diagonal.

    Called with features (..., hidden), returns a distribution of batch shape (...) and event
    shape (D,). The factor starts small; the scale is above 1e-4.

    Parameters
    ----------
    hidden
        Number of features.
    latent
        Latent dimensions D.
    rank
        Number of columns of the factor, (..., D, rank).

    Examples
    --------
    >>> import torch
    >>> q = LowRankNormal(hidden=8, latent=3, rank=1)(torch.randn(5, 8))
    >>> q.covariance_matrix.shape
    torch.Size([5, 3, 3])
    """

    def __init__(self, hidden: int, latent: int, rank: int = 2) -> None:
        super().__init__()
        self.loc = nn.Linear(hidden, latent)
        self.raw_scale = nn.Linear(hidden, latent)
        self.factor = nn.Linear(hidden, latent * rank)
        self.rank = rank
        for parameter in self.factor.parameters():
            parameter.data *= 0.1  # not 0, where the factor's own gradient is 0

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        scale = softplus(self.raw_scale(features)) + 1e-4  # (..., D)
        factor = self.factor(features).unflatten(-1, (-1, self.rank))  # (..., D, rank)
        return dist.LowRankMultivariateNormal(self.loc(features), factor, scale**2)


class FlowPosterior(nn.Module):
    """q(z | h) by an inverse autoregressive flow, conditional on the features.

        u ~ Normal(0, I),  z = loc(h) + scale(h) * flow(u; h)

    Called with features (..., hidden), returns a distribution of batch shape (...) and event
    shape (D,). It starts near a diagonal normal. A draw and its density take one pass, the density
    of any other value takes D. Its mean has no closed form.

    Parameters
    ----------
    hidden
        Number of features.
    latent
        Latent dimensions D.
    transforms
        Number of composed affine maps.
    flow_hidden
        Width of each map's network.

    References
    ----------
    Kingma et al., NeurIPS 2016, https://arxiv.org/abs/1606.04934

    Examples
    --------
    >>> import torch
    >>> q = FlowPosterior(hidden=8, latent=3)(torch.randn(5, 8))
    >>> z = q.rsample()
    >>> z.shape, q.log_prob(z).shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self, hidden: int, latent: int, transforms: int = 2, flow_hidden: int = 32
    ) -> None:
        super().__init__()
        self.loc = nn.Linear(hidden, latent)
        self.raw_scale = nn.Linear(hidden, latent)
        self.flow = near_identity(
            affine_map(latent, hidden, transforms=transforms, hidden=flow_hidden)
        )

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        loc = self.loc(features)  # (..., D)
        scale = softplus(self.raw_scale(features)) + 1e-4
        base = dist.Normal(torch.zeros_like(loc), torch.ones_like(loc)).to_event(1)
        place = AffineTransform(loc, scale, event_dim=1)
        return Flow(base, push=ComposedTransform(self.flow(features), place))
