"""Heads: modules that map a latent state to the distribution of a label or a target.

Their weights start at zero and use no random numbers: a story with a head starts with the same
weights as the story without.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class ClassHead(nn.Module):
    """p(label | z) = Categorical(softmax(weight z + bias)).

    Called with z (..., D), returns a distribution over K labels of batch shape (...).

    Parameters
    ----------
    latent
        Latent dimensions D.
    labels
        Number of labels K.

    Examples
    --------
    >>> import torch
    >>> head = ClassHead(latent=2, labels=4)
    >>> head(torch.randn(3, 2)).probs[0].tolist()  # equal at the start
    [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, latent: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(labels, latent))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=z @ self.weight.T + self.bias)


class ValueHead(nn.Module):
    """p(target | z) = Normal(weight z + bias, scale^2).

    Called with z (..., D), returns a distribution of batch shape (...) and event shape (1,).

    Parameters
    ----------
    latent
        Latent dimensions D.

    Examples
    --------
    >>> import torch
    >>> target = ValueHead(latent=2)(torch.randn(3, 2))
    >>> target.batch_shape, target.event_shape
    (torch.Size([3]), torch.Size([1]))
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, latent))
        self.bias = nn.Parameter(torch.zeros(1))
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> dist.TorchDistribution:
        loc = z @ self.weight.T + self.bias  # (..., 1)
        return dist.Normal(loc, self.log_scale.exp()).to_event(1)
