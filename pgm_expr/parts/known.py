r"""What is known of a cell, and the prior that it gives to one level of a hierarchy of latents."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from .priors import LOG_SCALE

APART = -1.0  # log scale that a known cell's prior starts at, where locs start one apart


class OneHot(nn.Module):
    """The level of a cell, such as its label, as one column a level; all 0 where it is not told.

    call(level (N,) int64 or None, library (N, 1)) -> (N, levels). Not told is a level of -1, all
    of them where there is no column, and in training a share `dropout` of cells.
    """

    def __init__(self, levels: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        rows = torch.cat([torch.eye(levels), torch.zeros(1, levels)])
        self.register_buffer("rows", rows, persistent=False)  # (K + 1, K), the last: not told
        self.dropout = dropout

    def forward(self, level: Tensor | None, library: Tensor) -> Tensor:
        if level is None:
            level = torch.full_like(library.squeeze(-1), -1, dtype=torch.long)
        if self.training and self.dropout:
            told = torch.rand(level.shape, device=level.device) >= self.dropout
            level = level.where(told, -1)
        return self.rows.index_select(0, level % len(self.rows))


class Covariates(nn.Module):
    """The covariates of a cell, 0 where they are not told: as if the cell were an average one.

    call(condition (N, C) or None, library (N, 1)) -> (N, C). Not told is NaN.
    """

    def __init__(self, conditions: int = 0) -> None:
        super().__init__()
        self.conditions = conditions

    def forward(self, condition: Tensor | None, library: Tensor) -> Tensor:
        if condition is None:
            return library.new_zeros(len(library), self.conditions)
        return condition.nan_to_num()


class NormalByEffects(nn.Module):
    """p(z | c) = Normal(loc + c effects, scale(c)^2): what is known of a cell adds up.

    call(c (N, C)) -> batch shape (N,), event shape (D,). Of a cell of which nothing is known c is
    0, and its prior starts at Normal(0, I). Levels start apart, at draws of Normal(0, I) around
    which their cells are narrow: what is known is in z from the first step, at no cost. Scales
    stay within a factor of 50 of 1, and no weight decay pulls the levels together.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))
        self.loc_effect = nn.Parameter(torch.randn(features, latent))
        self.log_scale_effect = nn.Parameter(torch.full((features, latent), APART))

    def forward(self, c: Tensor) -> dist.TorchDistribution:
        log_scale = self.log_scale + c @ self.log_scale_effect
        scale = (LOG_SCALE * torch.tanh(log_scale / LOG_SCALE)).exp()
        return dist.Normal(self.loc + c @ self.loc_effect, scale).to_event(1)
