"""Batches of cells: plates, lanes, protocols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import (
    indicators_of,
    level_code,
    refuse_missing,
    refuse_missing_level,
    repeated_levels,
    seen_codes,
)


@dataclass(frozen=True)
class Batch(Field):
    """Minibatch entry `batch`, (N,) int64: position in `levels`, known for every cell."""

    kind = "batch"
    arguments = {"batch_key": "Column of obs with batches."}
    entry = "batch"
    dtype = np.int64
    dimension = "batches"

    key: str
    levels: tuple[str, ...]

    @classmethod
    def learn(cls, obs: pd.DataFrame, train: np.ndarray, batch_key: str) -> tuple[Batch, ...]:
        """Levels of all cells."""
        return (cls(batch_key, repeated_levels(obs, batch_key)),)

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        codes = seen_codes(obs, self.key, self.levels)
        refuse_missing(obs, self.key, codes, "batch")
        return codes

    def set_to(self, level: object) -> np.ndarray:
        refuse_missing_level(self.key, level, "batch")
        return level_code(self.key, level, self.levels)

    def indicators(self, columns: Tensor) -> Tensor:
        return indicators_of(columns, self.size)

    @property
    def size(self) -> int:
        return len(self.levels)
