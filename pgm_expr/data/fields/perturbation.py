"""Perturbations of cells: guides, compounds, and combinations of them written `A+B`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import (
    check_key,
    check_level,
    refuse_missing,
    refuse_missing_level,
    repeated_levels,
    text_of,
)
from pgm_expr.data.messages import listing, near


@dataclass(frozen=True)
class Perturbation(Field):
    """Minibatch entry `perturbation`, (N, P) float32: 1 for each perturbation of a cell, else 0.

    `levels` are the single perturbations, sorted. Combinations of them that were absent from the
    fit are encoded too. Cells at the level `control` have zeros.
    """

    kind = "perturbation"
    arguments = {
        "perturbation_key": "Column of obs with perturbations; A+B is a combination.",
        "control": "Level of perturbation_key for unperturbed cells.",
    }
    entry = "perturbation"
    dimension = "perturbations"

    key: str
    levels: tuple[str, ...]
    control: str | None = None

    @classmethod
    def learn(
        cls,
        obs: pd.DataFrame,
        train: np.ndarray,
        perturbation_key: str | None = None,
        control: str | None = None,
    ) -> tuple[Perturbation, ...]:
        """Single perturbations of all cells, including those in combinations."""
        if perturbation_key is None:
            raise ValueError(f"control={control!r} needs perturbation_key. Pass it too.")
        found = repeated_levels(obs, perturbation_key)
        _check_control(perturbation_key, found, control)
        singles = {part for level in found for part in parts_of(level, control)}
        if not singles:
            raise ValueError(
                f"obs column {perturbation_key!r} must hold perturbations: found {control!r} in "
                "every cell. Leave out perturbation_key."
            )
        return (cls(perturbation_key, tuple(sorted(singles)), control),)

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        check_key(obs, self.key)
        codes, found = pd.factorize(obs[self.key])
        refuse_missing(obs, self.key, codes, "perturbation")
        received = [parts_of(text_of(level), self.control) for level in found]
        self._refuse_unseen(obs, codes, received)
        table = [[single in parts for single in self.levels] for parts in received]
        return np.array(table, dtype=np.float32).reshape(-1, self.size)[codes]

    def _refuse_unseen(
        self, obs: pd.DataFrame, codes: np.ndarray, received: Sequence[Sequence[str]]
    ) -> None:
        """Raise ValueError for a single perturbation that is not in `levels`."""
        unknown = [sorted({*parts} - {*self.levels}) for parts in received]
        for cell in np.flatnonzero(np.array([bool(each) for each in unknown])[codes])[:1]:
            (name, *_), level = unknown[codes[cell]], text_of(obs[self.key].iloc[cell])
            raise ValueError(
                f"obs column {self.key!r} holds {level!r} at cell {str(obs.index[cell])!r}: the "
                f"fit has not seen {name!r}. Known levels: {listing(self.levels)}."
                f"{near(name, self.levels)} Rename it, drop these cells or fit with them."
            )

    def set_to(self, level: object) -> np.ndarray:
        refuse_missing_level(self.key, level, "perturbation")
        text = text_of(level)
        check_level(self.key, text, parts_of(text, self.control), self.levels)
        return self.encode(pd.DataFrame({self.key: [level]}))

    def decode(self, columns: np.ndarray) -> np.ndarray:
        """One integer code per combination, comparable within one call only."""
        return np.unique(columns, axis=0, return_inverse=True)[1].ravel()

    @property
    def size(self) -> int:
        return len(self.levels)


def parts_of(level: str, control: str | None) -> tuple[str, ...]:
    """Split `A+B` into A and B. The control has no parts, and `A+control` is A alone."""
    parts = () if level == control else level.split("+")
    return tuple(part.strip() for part in parts if part.strip() != control)


def _check_control(key: str, levels: Sequence[str], control: str | None) -> None:
    if control is not None and control not in levels:
        raise ValueError(
            f"control {control!r} is not in obs column {key!r}, which holds {listing(levels)}."
            f"{near(control, levels)} Pass the level of unperturbed cells."
        )
