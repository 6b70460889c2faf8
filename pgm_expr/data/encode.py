"""Columns of obs as numbers: labels and batches as integers, covariates as condition features.

An `Encoding` is learned once, on the data of the fit, stored with the run as plain JSON, and
applied to query data, whose unseen levels are refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pgm_expr.data.hints import listing, near

MISSING, UNSEEN = -1, -2


@dataclass(frozen=True)
class Columns:
    """Names of the obs columns a run uses, and the label that stands for `unlabelled`."""

    labels_key: str | None = None
    batch_key: str | None = None
    categorical_covariate_keys: tuple[str, ...] = ()
    continuous_covariate_keys: tuple[str, ...] = ()
    unlabeled_category: str | None = None

    def __post_init__(self) -> None:
        for name in ("categorical_covariate_keys", "continuous_covariate_keys"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ValueError(
                    f"{name} must be a list of names: got {value!r}. Pass [{value!r}]."
                )
            object.__setattr__(self, name, tuple(value))

    def keys(self) -> list[str]:
        """Every column named."""
        single = [key for key in (self.labels_key, self.batch_key) if key is not None]
        return [*single, *self.categorical_covariate_keys, *self.continuous_covariate_keys]


@dataclass(frozen=True)
class Encoding:
    """Levels and moments learned from the data of a fit.

    labels, batches: sorted levels (labels without the unlabelled one), empty where not asked for;
    categories: sorted levels by categorical covariate; moments: (mean, sd) by continuous one.
    Levels are strings, whatever their type in obs.
    """

    columns: Columns
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    moments: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def learn(cls, obs: pd.DataFrame, columns: Columns, train: np.ndarray) -> Encoding:
        """Levels from all cells, means and standard deviations from the cells `train`.

        Raises ValueError for columns that are unknown, without levels, not numeric or constant
        where a number is due, or as good as continuous where levels are due.
        """
        _check_keys(obs, columns)
        labels = _levels(obs, columns.labels_key) if columns.labels_key is not None else ()
        _check_unlabeled(labels, columns)
        return cls(
            columns=columns,
            labels=tuple(level for level in labels if level != columns.unlabeled_category),
            batches=_levels(obs, columns.batch_key) if columns.batch_key is not None else (),
            categories={key: _levels(obs, key) for key in columns.categorical_covariate_keys},
            moments={key: _moments(obs, key, train) for key in columns.continuous_covariate_keys},
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the C columns of `condition`."""
        names = []
        for key, levels in self.categories.items():
            names += [*(f"{key}={level}" for level in levels), f"{key} is missing"]
        for key in self.moments:
            names += [key, f"{key} is missing"]
        return tuple(names)

    def dims(self) -> dict[str, int]:
        """Sizes by constructor argument: `labels`, `batches`, `conditions`, where asked for."""
        sizes = {
            "labels": len(self.labels),
            "batches": len(self.batches),
            "conditions": len(self.features),
        }
        return {name: size for name, size in sizes.items() if size}

    def encode(self, obs: pd.DataFrame) -> dict[str, np.ndarray]:
        """The columns of a minibatch that were asked for, for all N cells of `obs`.

        `label` (N,) int64, -1 where missing, unlabelled or (with a warning) unseen, and left out
        where obs has no such column; `batch` (N,) int64; `condition` (N, C) float32. Raises
        ValueError for a missing column, a missing batch and an unseen batch or category.
        """
        encoded = {}
        if self.labels and self.columns.labels_key in obs:
            encoded["label"] = self._label(obs)
        if self.batches:
            encoded["batch"] = self._batch(obs)
        if self.features:
            encoded["condition"] = self._condition(obs)
        return encoded

    def _label(self, obs: pd.DataFrame) -> np.ndarray:
        key = self.columns.labels_key
        codes = _codes(obs[key], self.labels, missing=self.columns.unlabeled_category)
        unseen = codes == UNSEEN
        if unseen.any():
            warnings.warn(
                f"{unseen.sum()} cells count as unlabelled: {_unseen(obs, key, codes)}, which "
                f"the fit has not seen.{_known(obs, key, codes, self.labels)}",
                stacklevel=3,
            )
        return np.where(unseen, MISSING, codes)

    def _batch(self, obs: pd.DataFrame) -> np.ndarray:
        key = self.columns.batch_key
        codes = _seen(obs, key, self.batches)
        if (codes == MISSING).any():
            first = obs.index[np.argmax(codes == MISSING)]
            raise ValueError(
                f"obs column {key!r} must name a batch for each cell: found "
                f"{(codes == MISSING).sum()} missing, first at cell {str(first)!r}. "
                "Fill them in or drop these cells."
            )
        return codes

    def _condition(self, obs: pd.DataFrame) -> np.ndarray:
        parts = [_one_hot(_seen(obs, key, known), known) for key, known in self.categories.items()]
        parts += [_standardised(obs, key, *moments) for key, moments in self.moments.items()]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, for `json.dumps`."""
        return {
            "columns": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(self.columns).items()
            },
            "labels": list(self.labels),
            "batches": list(self.batches),
            "categories": {key: list(levels) for key, levels in self.categories.items()},
            "moments": {key: list(pair) for key, pair in self.moments.items()},
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Encoding:
        """The inverse of `to_json`."""
        columns = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in stored["columns"].items()
        }
        return cls(
            columns=Columns(**columns),
            labels=tuple(stored["labels"]),
            batches=tuple(stored["batches"]),
            categories={key: tuple(levels) for key, levels in stored["categories"].items()},
            moments={key: (mean, sd) for key, (mean, sd) in stored["moments"].items()},
        )


def _check_keys(obs: pd.DataFrame, columns: Columns) -> None:
    for key in columns.keys():
        _check_key(obs, key)


def _check_key(obs: pd.DataFrame, key: str) -> None:
    if key not in obs:
        raise ValueError(
            f"obs has no column {key!r}: it holds {listing(obs.columns)}.{near(key, obs.columns)} "
            "Name one of these or add it."
        )


def _check_unlabeled(labels: Sequence[str], columns: Columns) -> None:
    unlabeled = columns.unlabeled_category
    if unlabeled is not None and labels == (unlabeled,):
        raise ValueError(
            f"obs column {columns.labels_key!r} must hold labels: found {unlabeled!r} in every "
            "labelled cell. Label some cells or leave out labels_key."
        )
    if unlabeled is None or unlabeled in labels:
        return
    if columns.labels_key is None:
        raise ValueError(f"unlabeled_category={unlabeled!r} needs labels_key. Pass it too.")
    warnings.warn(
        f"unlabeled_category={unlabeled!r} is not in obs column {columns.labels_key!r}, which "
        f"holds {listing(labels)}.{near(unlabeled, labels)} All its cells count as labelled.",
        stacklevel=3,
    )


def _text(value: object) -> str:
    """A level as a string; 1.0 reads `1`, as integers turn to floats beside a missing value."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _levels(obs: pd.DataFrame, key: str) -> tuple[str, ...]:
    codes, values = pd.factorize(obs[key])
    if not len(values):
        raise ValueError(f"obs column {key!r} is missing in all {len(obs)} cells. Leave it out.")
    levels = tuple(sorted({_text(value) for value in values}))
    if 2 * len(levels) > len(obs):
        crowded = f"obs column {key!r} has {len(levels)} levels over {len(obs)} cells"
        if pd.api.types.is_float_dtype(obs[key]):
            raise ValueError(f"{crowded}: it is a number. Pass it in continuous_covariate_keys.")
        warnings.warn(f"{crowded}: most levels are of one cell only.", stacklevel=3)
    return levels


def _codes(values: pd.Series, levels: Sequence[str], missing: str | None = None) -> np.ndarray:
    """(N,) int64 position in `levels`; MISSING for a missing value or that name, else UNSEEN."""
    position = {level: number for number, level in enumerate(levels)}
    if missing is not None:
        position[missing] = MISSING
    codes, found = pd.factorize(values)  # -1 where missing: picks the last entry of the table
    table = [position.get(_text(value), UNSEEN) for value in found]
    return np.array([*table, MISSING], dtype=np.int64)[codes]


def _seen(obs: pd.DataFrame, key: str, levels: Sequence[str]) -> np.ndarray:
    """Codes of the column; raises ValueError at a level that the fit has not seen."""
    _check_key(obs, key)
    codes = _codes(obs[key], levels)
    if (codes == UNSEEN).any():
        raise ValueError(
            f"{_unseen(obs, key, codes)}, which the fit has not seen."
            f"{_known(obs, key, codes, levels)} Rename it, drop these cells or fit with them."
        )
    return codes


def _unseen(obs: pd.DataFrame, key: str, codes: np.ndarray) -> str:
    first = int(np.argmax(codes == UNSEEN))
    level = _text(obs[key].iloc[first])
    return f"obs column {key!r} holds {level!r} at cell {str(obs.index[first])!r}"


def _known(obs: pd.DataFrame, key: str, codes: np.ndarray, levels: Sequence[str]) -> str:
    level = _text(obs[key].iloc[int(np.argmax(codes == UNSEEN))])
    return f" Known are {listing(levels)}.{near(level, levels)}"


def _one_hot(codes: np.ndarray, levels: Sequence[str]) -> np.ndarray:
    """(N, levels + 1) float32: one level each; the last column says that it is missing."""
    column = np.where(codes == MISSING, len(levels), codes)
    return np.eye(len(levels) + 1, dtype=np.float32)[column]


def _numbers(obs: pd.DataFrame, key: str) -> np.ndarray:
    """(N,) float64, NaN where missing; raises ValueError for other types and infinite values."""
    _check_key(obs, key)
    if not pd.api.types.is_numeric_dtype(obs[key]):
        raise ValueError(
            f"obs column {key!r} must be numeric: found {str(obs[key].iloc[0])!r} at cell "
            f"{str(obs.index[0])!r}. Convert it with pandas.to_numeric or pass it in "
            "categorical_covariate_keys."
        )
    numbers = obs[key].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        first = obs.index[np.argmax(np.isinf(numbers))]
        raise ValueError(
            f"obs column {key!r} must be finite: found an infinite value at cell {str(first)!r}. "
            "Repair it or mark it missing with NaN."
        )
    return numbers


def _moments(obs: pd.DataFrame, key: str, train: np.ndarray) -> tuple[float, float]:
    numbers = _numbers(obs, key)[train]
    known = numbers[~np.isnan(numbers)]
    if not len(known) or known.min() == known.max():
        found = f"only {known[0]:g}" if len(known) else "no value"
        raise ValueError(
            f"obs column {key!r} must vary over the training cells: found {found} in "
            f"{len(numbers)} cells. Leave it out of continuous_covariate_keys."
        )
    return float(known.mean()), float(known.std())


def _standardised(obs: pd.DataFrame, key: str, mean: float, sd: float) -> np.ndarray:
    """(N, 2): the standardised value, 0 where missing, and whether it is missing."""
    numbers = _numbers(obs, key)
    missing = np.isnan(numbers)
    return np.stack([np.where(missing, 0.0, (numbers - mean) / sd), missing], axis=1)
