"""A number to predict for each cell: growth, survival, a drug's effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.numbers import moments_of, numbers_of


@dataclass(frozen=True)
class Target(Field):
    """Minibatch entry `target`, (N, 1) float32: (value - mean) / sd, NaN where missing.

    The moments turn a prediction back into the column's units.
    """

    kind = "target"
    arguments = {"target_key": "Column of obs with a number to predict."}
    entry = "target"
    predicted = True
    missing = np.array([np.nan], dtype=np.float32)
    settable = False
    size = 1

    key: str
    mean: float
    sd: float

    @classmethod
    def learn(cls, obs: pd.DataFrame, train: np.ndarray, target_key: str) -> tuple[Target, ...]:
        """Moments of the training cells."""
        training = numbers_of(obs, target_key, "labels_key")[train]
        return (cls(target_key, *moments_of(target_key, training, "target_key")),)

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        numbers = (numbers_of(obs, self.key, "labels_key") - self.mean) / self.sd
        return numbers[:, None].astype(np.float32)

    def set_to(self, level: object) -> np.ndarray:
        """Raise ValueError: a model predicts it."""
        raise ValueError(
            f"obs column {self.key!r} is the target of the fit: it cannot be set. "
            "Name another column."
        )

    def decode(self, columns: np.ndarray) -> np.ndarray:
        return columns[:, 0]
