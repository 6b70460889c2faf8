"""Priors p(z): modules whose call returns the distribution of a latent vector."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import nn


class StandardNormal(nn.Module):
    """p(z) = Normal(0, I): call() -> event shape (D,)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent))  # follows .to(device)

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.origin, torch.ones_like(self.origin)).to_event(1)
