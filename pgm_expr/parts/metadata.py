"""What is known of a cell beside its counts, as features that networks take."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Metadata(nn.Module):
    """The batch of a cell, one-hot, beside its covariates; and whether nothing is told of it.

    call(condition (N, C), batch (N,) int64) -> (N, features). Nothing is told of a cell whose
    condition is NaN and whose batch is -1, nor, in training, of a share `condition_dropout` of
    cells. A column of its own says so: "not told" is no level of any covariate.
    """

    def __init__(
        self, conditions: int = 0, batches: int = 0, condition_dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not conditions + batches:
            raise ValueError(
                "the story conditions on metadata, and the data name none. Pass batch_key, "
                "categorical_covariate_keys or continuous_covariate_keys, or take the story vae."
            )
        self.features = batches + conditions + 1
        self.conditions, self.batches = conditions, batches
        self.condition_dropout = condition_dropout
        levels = torch.cat([torch.eye(batches), torch.full((1, batches), torch.nan)])
        self.register_buffer("levels", levels, persistent=False)  # (B + 1, B), the last: not told

    def forward(self, condition: Tensor | None = None, batch: Tensor | None = None) -> Tensor:
        told = torch.cat(self._columns(condition, batch), -1)  # (N, C + B)
        silent = told.isnan().all(-1, keepdim=True)
        if self.training and self.condition_dropout:
            silent = silent | (torch.rand_like(told[:, :1]) < self.condition_dropout)
        told = torch.where(silent, 0.0, told.nan_to_num())
        return torch.cat([told, silent.to(told.dtype)], -1)

    def _columns(self, condition: Tensor | None, batch: Tensor | None) -> list[Tensor]:
        columns = [self.levels.index_select(0, batch % len(self.levels))] if self.batches else []
        return columns + ([condition] if self.conditions else [])
