r"""What is known of a cell: as columns, in networks, and in the priors of its latents."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..nn import concat
from .priors import bounded

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


class Gated(nn.Module):
    """Features of x that c shifts and gates: relu(weights (x, c)) * (1 + gates c), then dropout.

    call(x (..., inputs), c (..., told)) -> (..., hidden). What c does may differ with x, as a
    protocol's effect differs between types of cells, and x need not hold it.
    """

    def __init__(self, inputs: int, told: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Linear(inputs + told, hidden)
        self.gates = nn.Parameter(torch.zeros(told, hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.dropout(self.weights(concat(x, c)).relu() * (1 + c @ self.gates))


class NormalByLabel(nn.Module):
    """p(z | label) = Normal(loc_label, scale_label^2); the mixture of all where it is not told.

    call(label (N, K), one-hot or all 0) -> batch shape (N,), event shape (D,). Starts as
    `NormalByEffects` does: labels apart, their cells narrow around them.
    """

    def __init__(self, labels: int, latent: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(labels))  # how common a label is where not told
        self.loc = nn.Parameter(torch.randn(labels, latent))
        self.log_scale = nn.Parameter(torch.full((labels, latent), APART))

    def forward(self, label: Tensor) -> dist.TorchDistribution:
        told = label.any(-1, keepdim=True)
        logits = torch.where(told, label.log(), self.logits.log_softmax(-1))  # (N, K)
        normals = dist.Normal(self.loc, bounded(self.log_scale)).to_event(1)
        kinds = dist.Categorical(logits=logits)
        return dist.MixtureSameFamily(kinds, normals.expand(logits.shape))

    def at(self, weights: Tensor) -> dist.TorchDistribution:
        """The normal of one label, or at `weights` (N, K) between several."""
        scale = bounded(weights @ self.log_scale)
        return dist.Normal(weights @ self.loc, scale).to_event(1)


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
        scale = bounded(self.log_scale + c @ self.log_scale_effect)
        return dist.Normal(self.loc + c @ self.loc_effect, scale).to_event(1)
