"""Levels of a column of obs and their codes, with errors that name column and cell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pgm_expr.data.messages import listing, near

MISSING, UNSEEN = -1, -2


def check_key(obs: pd.DataFrame, key: str) -> None:
    if key not in obs:
        raise ValueError(
            f"obs has no column {key!r}: it holds {listing(obs.columns)}.{near(key, obs.columns)} "
            "Name one of these or add it."
        )


def names_of(argument: str, keys: Sequence[str]) -> tuple[str, ...]:
    """The columns that an argument lists, each once."""
    if isinstance(keys, str):
        raise ValueError(f"{argument} must be a list of names: got {keys!r}. Pass [{keys!r}].")
    return tuple(dict.fromkeys(keys))


def text_of(value: object) -> str:
    """A level as a string; 1.0 reads `1`, as integers turn to floats beside a missing value."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def levels_of(obs: pd.DataFrame, key: str) -> tuple[str, ...]:
    """Sorted levels of the column."""
    check_key(obs, key)
    _, values = pd.factorize(obs[key])
    if not len(values):
        raise ValueError(f"obs column {key!r} is missing in all {len(obs)} cells. Leave it out.")
    return tuple(sorted({text_of(value) for value in values}))


def repeated_levels(obs: pd.DataFrame, key: str) -> tuple[str, ...]:
    """`levels_of`, for columns in which most levels should be of several cells."""
    levels = levels_of(obs, key)
    if 2 * len(levels) > len(obs):
        crowded = f"obs column {key!r} has {len(levels)} levels over {len(obs)} cells"
        if pd.api.types.is_float_dtype(obs[key]):
            raise ValueError(f"{crowded}: it is continuous. Pass it in continuous_covariate_keys.")
        warnings.warn(f"{crowded}: most levels have one cell only.", stacklevel=5)
    return levels


def codes_of(values: pd.Series, levels: Sequence[str], missing: str | None = None) -> np.ndarray:
    """(N,) int64 position in `levels`; MISSING for a missing value or that name, else UNSEEN."""
    position = {level: number for number, level in enumerate(levels)}
    if missing is not None:
        position[missing] = MISSING
    codes, found = pd.factorize(values)  # -1 where missing: picks the last entry of the table
    table = [position.get(text_of(value), UNSEEN) for value in found]
    return np.array([*table, MISSING], dtype=np.int64)[codes]


def seen_codes(obs: pd.DataFrame, key: str, levels: Sequence[str]) -> np.ndarray:
    """Codes of the column; raises ValueError at a level that the fit has not seen."""
    check_key(obs, key)
    codes = codes_of(obs[key], levels)
    if (codes == UNSEEN).any():
        raise ValueError(
            f"{unseen(obs, key, codes, levels)} Rename it, drop these cells or fit with them."
        )
    return codes


def unseen(obs: pd.DataFrame, key: str, codes: np.ndarray, levels: Sequence[str]) -> str:
    """The first level that the fit has not seen, and those that it has."""
    first = int(np.argmax(codes == UNSEEN))
    level = text_of(obs[key].iloc[first])
    return (
        f"obs column {key!r} holds {level!r} at cell {str(obs.index[first])!r}, which the fit has "
        f"not seen. Known levels: {listing(levels)}.{near(level, levels)}"
    )


def refuse_missing(obs: pd.DataFrame, key: str, codes: np.ndarray, what: str) -> None:
    if (codes == MISSING).any():
        first = obs.index[np.argmax(codes == MISSING)]
        raise ValueError(
            f"obs column {key!r} must name a {what} for each cell: found "
            f"{(codes == MISSING).sum()} missing, first at cell {str(first)!r}. "
            "Fill them in or drop these cells."
        )


def level_code(key: str, level: object, levels: Sequence[str]) -> np.ndarray:
    """(1,) code of a level that cells are set to, MISSING where it is a missing value."""
    if not pd.isna(level):
        check_level(key, text_of(level), [text_of(level)], levels)
    return codes_of(pd.Series([level]), levels)


def check_level(key: str, level: str, parts: Sequence[str], levels: Sequence[str]) -> None:
    """Raise ValueError for a level that cells cannot be set to, as the fit has not seen a part."""
    for part in parts:
        if part not in levels:
            raise ValueError(
                f"condition sets obs column {key!r} to {level!r}: the fit has not seen {part!r}. "
                f"Known levels: {listing(levels)}.{near(part, levels)} Name one of these."
            )


def refuse_missing_level(key: str, level: object, what: str) -> None:
    if pd.isna(level):
        raise ValueError(
            f"obs column {key!r} must name a {what} in the condition: got {level!r}. "
            "Set it to a level."
        )


def one_hot(codes: np.ndarray, levels: Sequence[str]) -> np.ndarray:
    """(N, levels + 1) float32: one level each; the last column says that it is missing."""
    column = np.where(codes == MISSING, len(levels), codes)
    return np.eye(len(levels) + 1, dtype=np.float32)[column]


def indicators_of(codes: Tensor, number: int) -> Tensor:
    """(N, number) float: 1 at the code of each cell, zeros where it is missing."""
    return (codes.unsqueeze(-1) == torch.arange(number, device=codes.device)).float()
