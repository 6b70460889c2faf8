"""One column of obs: its levels, codes and numbers, with errors that name column and cell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pgm_expr.data.hints import listing, near

MISSING, UNSEEN = -1, -2


def check_key(obs: pd.DataFrame, key: str) -> None:
    if key not in obs:
        raise ValueError(
            f"obs has no column {key!r}: it holds {listing(obs.columns)}.{near(key, obs.columns)} "
            "Name one of these or add it."
        )


def text_of(value: object) -> str:
    """A level as a string; 1.0 reads `1`, as integers turn to floats beside a missing value."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def levels_of(obs: pd.DataFrame, key: str) -> tuple[str, ...]:
    codes, values = pd.factorize(obs[key])
    if not len(values):
        raise ValueError(f"obs column {key!r} is missing in all {len(obs)} cells. Leave it out.")
    levels = tuple(sorted({text_of(value) for value in values}))
    if 2 * len(levels) > len(obs):
        crowded = f"obs column {key!r} has {len(levels)} levels over {len(obs)} cells"
        if pd.api.types.is_float_dtype(obs[key]):
            raise ValueError(f"{crowded}: it is a number. Pass it in continuous_covariate_keys.")
        warnings.warn(f"{crowded}: most levels are of one cell only.", stacklevel=3)
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
            f"{unseen_at(obs, key, codes)}, which the fit has not seen."
            f"{known_levels(obs, key, codes, levels)} "
            "Rename it, drop these cells or fit with them."
        )
    return codes


def refuse_missing(obs: pd.DataFrame, key: str, codes: np.ndarray, what: str) -> None:
    if (codes == MISSING).any():
        first = obs.index[np.argmax(codes == MISSING)]
        raise ValueError(
            f"obs column {key!r} must name a {what} for each cell: found "
            f"{(codes == MISSING).sum()} missing, first at cell {str(first)!r}. "
            "Fill them in or drop these cells."
        )


def unseen_at(obs: pd.DataFrame, key: str, codes: np.ndarray) -> str:
    first = int(np.argmax(codes == UNSEEN))
    level = text_of(obs[key].iloc[first])
    return f"obs column {key!r} holds {level!r} at cell {str(obs.index[first])!r}"


def known_levels(obs: pd.DataFrame, key: str, codes: np.ndarray, levels: Sequence[str]) -> str:
    level = text_of(obs[key].iloc[int(np.argmax(codes == UNSEEN))])
    return f" Known are {listing(levels)}.{near(level, levels)}"


def one_hot(codes: np.ndarray, levels: Sequence[str]) -> np.ndarray:
    """(N, levels + 1) float32: one level each; the last column says that it is missing."""
    column = np.where(codes == MISSING, len(levels), codes)
    return np.eye(len(levels) + 1, dtype=np.float32)[column]


def numbers_of(
    obs: pd.DataFrame, key: str, instead: str = "categorical_covariate_keys"
) -> np.ndarray:
    """(N,) float64, NaN where missing; raises ValueError for other types and infinite values."""
    check_key(obs, key)
    if not pd.api.types.is_numeric_dtype(obs[key]):
        raise ValueError(
            f"obs column {key!r} must be numeric: found {str(obs[key].iloc[0])!r} at cell "
            f"{str(obs.index[0])!r}. Convert it with pandas.to_numeric or pass it in {instead}."
        )
    numbers = obs[key].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        first = obs.index[np.argmax(np.isinf(numbers))]
        raise ValueError(
            f"obs column {key!r} must be finite: found an infinite value at cell {str(first)!r}. "
            "Repair it or mark it missing with NaN."
        )
    return numbers


def moments_of(
    obs: pd.DataFrame, key: str, train: np.ndarray, of: str = "continuous_covariate_keys"
) -> tuple[float, float]:
    """Mean and standard deviation over the cells `train`; `of` is the argument it was given as."""
    instead = "labels_key" if of == "target_key" else "categorical_covariate_keys"
    numbers = numbers_of(obs, key, instead)[train]
    known = numbers[~np.isnan(numbers)]
    if not len(known) or known.min() == known.max():
        found = f"only {known[0]:g}" if len(known) else "no value"
        raise ValueError(
            f"obs column {key!r} must vary over the training cells: found {found} in "
            f"{len(numbers)} cells. Leave it out of {of}."
        )
    return float(known.mean()), float(known.std())


def standardised(obs: pd.DataFrame, key: str, mean: float, sd: float) -> np.ndarray:
    """(N, 2): the standardised value, 0 where missing, and whether it is missing."""
    numbers = numbers_of(obs, key)
    missing = np.isnan(numbers)
    return np.stack([np.where(missing, 0.0, (numbers - mean) / sd), missing], axis=1)
