"""Labels of cells: a type or a class to predict, known for some cells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import (
    MISSING,
    UNSEEN,
    check_key,
    codes_of,
    indicators_of,
    level_code,
    repeated_levels,
    unseen,
)
from pgm_expr.data.messages import listing, near


@dataclass(frozen=True)
class Label(Field):
    """Minibatch entry `label`, (N,) int64: position in `levels`, -1 for unlabelled cells.

    A cell is unlabelled where the column is missing, holds `unlabeled_category`, or (with a
    warning) a level that the fit has not seen. Models are judged, and embed, without labels.
    """

    kind = "label"
    arguments = {
        "labels_key": "Column of obs with labels.",
        "unlabeled_category": "Level of labels_key for unlabelled cells.",
    }
    entry = "label"
    dtype = np.int64
    dimension = "labels"
    predicted = True
    missing = np.array(MISSING, dtype=np.int64)

    key: str
    levels: tuple[str, ...] = ()
    unlabeled_category: str | None = None

    @classmethod
    def learn(
        cls,
        obs: pd.DataFrame,
        train: np.ndarray,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
    ) -> tuple[Label, ...]:
        """Levels of all cells, without the unlabelled one."""
        if labels_key is None:
            raise ValueError(
                f"unlabeled_category={unlabeled_category!r} needs labels_key. Pass it too."
            )
        found = repeated_levels(obs, labels_key)
        _check_unlabeled(labels_key, found, unlabeled_category)
        levels = tuple(level for level in found if level != unlabeled_category)
        return (cls(labels_key, levels, unlabeled_category),)

    def labelled(self, obs: pd.DataFrame) -> np.ndarray:
        """Which cells have a label, (N,) bool, of whatever level."""
        check_key(obs, self.key)
        return codes_of(obs[self.key], (), missing=self.unlabeled_category) != MISSING

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        check_key(obs, self.key)
        codes = codes_of(obs[self.key], self.levels, missing=self.unlabeled_category)
        unknown = codes == UNSEEN
        if unknown.any():
            warnings.warn(
                f"{unknown.sum()} cells count as unlabelled: "
                f"{unseen(obs, self.key, codes, self.levels)}",
                stacklevel=3,
            )
        return np.where(unknown, MISSING, codes)

    def set_to(self, level: object) -> np.ndarray:
        return level_code(self.key, level, self.levels)

    def indicators(self, columns: Tensor) -> Tensor:
        return indicators_of(columns, self.size)

    @property
    def size(self) -> int:
        return len(self.levels)


def _check_unlabeled(key: str, labels: Sequence[str], unlabeled: str | None) -> None:
    if unlabeled is None:
        return
    if labels == (unlabeled,):
        raise ValueError(
            f"obs column {key!r} must hold labels: found {unlabeled!r} in every "
            "labelled cell. Label some cells or leave out labels_key."
        )
    if unlabeled not in labels:
        warnings.warn(
            f"unlabeled_category={unlabeled!r} is not in obs column {key!r}, which "
            f"holds {listing(labels)}.{near(unlabeled, labels)} All its cells count as labelled.",
            stacklevel=5,
        )
