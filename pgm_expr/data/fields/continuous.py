"""Continuous covariates: age, dose, time, standardised in the condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import names_of
from pgm_expr.data.fields.numbers import as_number, moments_of, numbers_of

ARGUMENT, INSTEAD = "continuous_covariate_keys", "categorical_covariate_keys"


@dataclass(frozen=True)
class ContinuousCovariate(Field):
    """Two columns of the minibatch entry `condition`: (value - mean) / sd, and 1 where missing.

    The first is 0 where the value is missing.
    """

    kind = "continuous_covariate"
    arguments = {ARGUMENT: "Column of obs with a continuous covariate."}
    entry = "condition"
    dimension = "conditions"
    size = 2

    key: str
    mean: float
    sd: float

    @classmethod
    def learn(
        cls, obs: pd.DataFrame, train: np.ndarray, continuous_covariate_keys: Sequence[str]
    ) -> tuple[ContinuousCovariate, ...]:
        """One field a column, each with the moments of the training cells."""
        keys = names_of(ARGUMENT, continuous_covariate_keys)
        numbers = (numbers_of(obs, key, INSTEAD)[train] for key in keys)
        moments = map(moments_of, keys, numbers, [ARGUMENT] * len(keys))
        return tuple(cls(key, *each) for key, each in zip(keys, moments, strict=True))

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        numbers = numbers_of(obs, self.key, INSTEAD)
        missing = np.isnan(numbers)
        scaled = np.where(missing, 0.0, (numbers - self.mean) / self.sd)
        return np.stack([scaled, missing], axis=1).astype(np.float32)

    def set_to(self, level: object) -> np.ndarray:
        return self.encode(pd.DataFrame({self.key: [as_number(self.key, level)]}))

    def decode(self, columns: np.ndarray) -> np.ndarray:
        return np.where(columns[:, -1] > 0, np.nan, columns[:, 0])

    @property
    def name(self) -> str:
        return self.key

    @property
    def features(self) -> tuple[str, ...]:
        return (self.key, f"{self.key} is missing")
