"""Columns of obs as numbers: labels and batches as integers, covariates as condition features,
perturbations as zeros and ones, a target as a standardised number.

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

from pgm_expr.data.columns import (
    MISSING,
    UNSEEN,
    check_key,
    codes_of,
    known_levels,
    levels_of,
    moments_of,
    numbers_of,
    one_hot,
    refuse_missing,
    seen_codes,
    standardised,
    text_of,
    unseen_at,
)
from pgm_expr.data.hints import listing, near


@dataclass(frozen=True)
class Columns:
    """Names of the obs columns a run uses, the label that stands for `unlabelled`, and the
    perturbation that stands for none."""

    labels_key: str | None = None
    batch_key: str | None = None
    categorical_covariate_keys: tuple[str, ...] = ()
    continuous_covariate_keys: tuple[str, ...] = ()
    unlabeled_category: str | None = None
    perturbation_key: str | None = None
    control: str | None = None
    target_key: str | None = None

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
        single = (self.labels_key, self.batch_key, self.perturbation_key, self.target_key)
        several = *self.categorical_covariate_keys, *self.continuous_covariate_keys
        return [key for key in single if key is not None] + [*several]


@dataclass(frozen=True)
class Encoding:
    """Levels and moments learned from the data of a fit.

    labels, batches: sorted levels (labels without the unlabelled one), empty where not asked for;
    categories: sorted levels by categorical covariate; moments: (mean, sd) by continuous one;
    perturbations: sorted single ones; target: its (mean, sd), which turn a prediction back.
    Levels are strings, whatever their type in obs.
    """

    columns: Columns
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    moments: dict[str, tuple[float, float]] = field(default_factory=dict)
    perturbations: tuple[str, ...] = ()
    target: tuple[float, float] | None = None

    @classmethod
    def learn(cls, obs: pd.DataFrame, columns: Columns, train: np.ndarray) -> Encoding:
        """Levels from all cells, means and standard deviations from the cells `train`.

        Raises ValueError for columns that are unknown, without levels, not numeric or constant
        where a number is due, or as good as continuous where levels are due, and for a control
        that no cell is.
        """
        _check_keys(obs, columns)
        labels = levels_of(obs, columns.labels_key) if columns.labels_key is not None else ()
        _check_unlabeled(labels, columns)
        target = columns.target_key
        return cls(
            columns=columns,
            labels=tuple(level for level in labels if level != columns.unlabeled_category),
            batches=levels_of(obs, columns.batch_key) if columns.batch_key is not None else (),
            categories={key: levels_of(obs, key) for key in columns.categorical_covariate_keys},
            moments={
                key: moments_of(obs, key, train) for key in columns.continuous_covariate_keys
            },
            perturbations=_singles(obs, columns),
            target=moments_of(obs, target, train, "target_key") if target is not None else None,
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

    def widths(self) -> dict[str, int]:
        """How many of those columns each covariate has, in their order."""
        levels = {key: len(levels) + 1 for key, levels in self.categories.items()}
        return levels | dict.fromkeys(self.moments, 2)

    def dims(self) -> dict[str, int]:
        """Sizes by constructor argument, of what was asked for: `labels`, `batches`,
        `conditions`, `perturbations`."""
        sizes = {
            "labels": len(self.labels),
            "batches": len(self.batches),
            "conditions": len(self.features),
            "perturbations": len(self.perturbations),
        }
        return {name: size for name, size in sizes.items() if size}

    def encode(self, obs: pd.DataFrame) -> dict[str, np.ndarray]:
        """The columns of a minibatch that were asked for, for all N cells of `obs`.

        `label` (N,) int64, -1 where missing, unlabelled or (with a warning) unseen, and left out
        where obs has no such column; `batch` (N,) int64; `condition` (N, C) float32;
        `perturbation` (N, P) float32, ones for those a cell received, in combinations never seen
        too; `target` (N, 1) float32, standardised, NaN where missing, left out like a label.
        Raises ValueError for a missing column, a missing batch or perturbation, and an unseen
        batch, category or single perturbation.
        """
        encoded = {}
        if self.labels and self.columns.labels_key in obs:
            encoded["label"] = self._label(obs)
        if self.batches:
            encoded["batch"] = self._batch(obs)
        if self.features:
            encoded["condition"] = self._condition(obs)
        if self.perturbations:
            encoded["perturbation"] = self.encode_perturbation(obs)
        if self.target and self.columns.target_key in obs:
            encoded["target"] = self._target(obs)
        return encoded

    def _label(self, obs: pd.DataFrame) -> np.ndarray:
        key = self.columns.labels_key
        codes = codes_of(obs[key], self.labels, missing=self.columns.unlabeled_category)
        unseen = codes == UNSEEN
        if unseen.any():
            warnings.warn(
                f"{unseen.sum()} cells count as unlabelled: {unseen_at(obs, key, codes)}, which "
                f"the fit has not seen.{known_levels(obs, key, codes, self.labels)}",
                stacklevel=3,
            )
        return np.where(unseen, MISSING, codes)

    def _batch(self, obs: pd.DataFrame) -> np.ndarray:
        key = self.columns.batch_key
        codes = seen_codes(obs, key, self.batches)
        refuse_missing(obs, key, codes, "batch")
        return codes

    def _condition(self, obs: pd.DataFrame) -> np.ndarray:
        parts = [
            one_hot(seen_codes(obs, key, known), known) for key, known in self.categories.items()
        ]
        parts += [standardised(obs, key, *moments) for key, moments in self.moments.items()]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def encode_perturbation(self, obs: pd.DataFrame) -> np.ndarray:
        """Which single perturbations each cell received, (N, P), from their column alone."""
        key = self.columns.perturbation_key
        check_key(obs, key)
        codes, found = pd.factorize(obs[key])
        refuse_missing(obs, key, codes, "perturbation")
        received = [parts_of(text_of(level), self.columns.control) for level in found]
        _refuse_unseen(obs, key, codes, received, self.perturbations)
        table = [[single in parts for single in self.perturbations] for parts in received]
        return np.array(table, dtype=np.float32)[codes]

    def _target(self, obs: pd.DataFrame) -> np.ndarray:
        mean, sd = self.target
        numbers = (numbers_of(obs, self.columns.target_key, "labels_key") - mean) / sd
        return numbers[:, None].astype(np.float32)

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
            "perturbations": list(self.perturbations),
            "target": list(self.target) if self.target else None,
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
            perturbations=tuple(stored.get("perturbations", ())),
            target=tuple(stored["target"]) if stored.get("target") else None,
        )


def labelled(obs: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Which cells have a label, (N,) bool."""
    check_key(obs, columns.labels_key)
    codes = codes_of(obs[columns.labels_key], (), missing=columns.unlabeled_category)
    return codes != MISSING


def _check_keys(obs: pd.DataFrame, columns: Columns) -> None:
    for key in columns.keys():
        check_key(obs, key)


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


def _singles(obs: pd.DataFrame, columns: Columns) -> tuple[str, ...]:
    """The single perturbations, sorted: those of combinations too."""
    key, control = columns.perturbation_key, columns.control
    if key is None:
        if control is not None:
            raise ValueError(f"control={control!r} needs perturbation_key. Pass it too.")
        return ()
    levels = levels_of(obs, key)
    if control is not None and control not in levels:
        raise ValueError(
            f"control {control!r} is not in obs column {key!r}, which holds {listing(levels)}."
            f"{near(control, levels)} Name its level for cells without a perturbation."
        )
    singles = tuple(sorted({part for level in levels for part in parts_of(level, control)}))
    if not singles:
        raise ValueError(
            f"obs column {key!r} must hold perturbations: found {control!r} in every cell. "
            "Leave out perturbation_key."
        )
    return singles


def parts_of(level: str, control: str | None) -> tuple[str, ...]:
    """The perturbations of `A+B`; none of the control, and of `A+control` A alone."""
    parts = () if level == control else level.split("+")
    return tuple(part.strip() for part in parts if part.strip() != control)


def _refuse_unseen(
    obs: pd.DataFrame,
    key: str,
    codes: np.ndarray,
    received: Sequence[Sequence[str]],
    known: Sequence[str],
) -> None:
    """ValueError at a single perturbation that the fit has not seen, by its name."""
    strange = [sorted({*parts} - {*known}) for parts in received]
    for cell in np.flatnonzero(np.array([bool(each) for each in strange])[codes])[:1]:
        (name, *_), level = strange[codes[cell]], text_of(obs[key].iloc[cell])
        raise ValueError(
            f"obs column {key!r} holds {level!r} at cell {str(obs.index[cell])!r}: the fit has "
            f"not seen {name!r}. Known are {listing(known)}.{near(name, known)} "
            "Rename it, drop these cells or fit with them."
        )
