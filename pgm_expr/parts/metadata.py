"""Batch and covariates of a cell as the features that networks of conditional stories take."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Metadata(nn.Module):
    """The batch of a cell, one-hot, its covariates, and whether the cell is unconditional.

    Called with condition (N, C) and batch (N,) int64, returns (N, features). A cell is
    unconditional if its condition is all NaN and its batch is -1, and in training a share
    `condition_dropout` of cells is. The last column says so, and the others are then 0: an
    unconditional cell differs from one with a missing covariate, which is a level of its own.

    Parameters
    ----------
    conditions
        Number of encoded covariates C.
    batches
        Number of batches.
    condition_dropout
        Share of cells that are made unconditional in training mode.

    Raises
    ------
    ValueError
        If there are neither covariates nor batches.

    Examples
    --------
    >>> import torch
    >>> encode = Metadata(conditions=1, batches=2)
    >>> encode(torch.tensor([[0.5], [torch.nan]]), torch.tensor([1, -1]))
    tensor([[0.0000, 1.0000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000, 1.0000]])
    """

    levels: Tensor

    def __init__(
        self, conditions: int = 0, batches: int = 0, condition_dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not conditions + batches:
            raise ValueError(
                "the story conditions on metadata, and the data have none. Pass batch_key, "
                "categorical_covariate_keys or continuous_covariate_keys, or take the story vae."
            )
        self.features = batches + conditions + 1
        self.conditions, self.batches = conditions, batches
        self.condition_dropout = condition_dropout
        levels = torch.cat([torch.eye(batches), torch.full((1, batches), torch.nan)])
        self.register_buffer("levels", levels, persistent=False)  # (B + 1, B), the last: none

    def forward(self, condition: Tensor | None = None, batch: Tensor | None = None) -> Tensor:
        columns = []
        if self.batches:
            level = _required(batch, "batch") % len(self.levels)
            columns.append(self.levels.index_select(0, level))
        if self.conditions:
            columns.append(_required(condition, "condition"))
        given = torch.cat(columns, -1)  # (N, B + C)
        none = given.isnan().all(-1, keepdim=True)
        if self.training and self.condition_dropout:
            none = none | (torch.rand_like(given[:, :1]) < self.condition_dropout)
        given = torch.where(none, 0.0, given.nan_to_num())
        return torch.cat([given, none.to(given.dtype)], -1)


def _required(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(f"a story that conditions on {name} was called without. Pass {name}.")
    return value
