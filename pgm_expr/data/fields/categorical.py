"""Categorical covariates: sex, tissue, protocol, as indicators of the condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import (
    level_code,
    names_of,
    one_hot,
    repeated_levels,
    seen_codes,
)


@dataclass(frozen=True)
class CategoricalCovariate(Field):
    """Columns of the minibatch entry `condition`: an indicator a level, and one for missing."""

    kind = "categorical_covariate"
    arguments = {"categorical_covariate_keys": "Column of obs with a categorical covariate."}
    entry = "condition"
    dimension = "conditions"

    key: str
    levels: tuple[str, ...]

    @classmethod
    def learn(
        cls, obs: pd.DataFrame, train: np.ndarray, categorical_covariate_keys: Sequence[str]
    ) -> tuple[CategoricalCovariate, ...]:
        """One field a column, each with the levels of all cells."""
        keys = names_of("categorical_covariate_keys", categorical_covariate_keys)
        return tuple(cls(key, repeated_levels(obs, key)) for key in keys)

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        return one_hot(seen_codes(obs, self.key, self.levels), self.levels)

    def set_to(self, level: object) -> np.ndarray:
        return one_hot(level_code(self.key, level, self.levels), self.levels)

    def decode(self, columns: np.ndarray) -> np.ndarray:
        return np.where(columns[:, -1] > 0, -1, columns.argmax(1))

    @property
    def size(self) -> int:
        return len(self.levels) + 1

    @property
    def name(self) -> str:
        return self.key

    @property
    def features(self) -> tuple[str, ...]:
        return (*(f"{self.key}={level}" for level in self.levels), f"{self.key} is missing")
