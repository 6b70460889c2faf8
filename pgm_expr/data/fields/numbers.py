"""Numeric columns of obs: their moments and standardised values."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pgm_expr.data.fields.levels import check_key


def numbers_of(obs: pd.DataFrame, key: str, instead: str) -> np.ndarray:
    """(N,) float64, NaN where missing; raises ValueError for other types and infinite values.

    `instead` is the argument of `fit` that takes columns of other types.
    """
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


def moments_of(key: str, numbers: np.ndarray, argument: str) -> tuple[float, float]:
    """Mean and standard deviation of the training cells, NaN left out.

    `argument` is the argument of `fit` that names the column.
    """
    known = numbers[~np.isnan(numbers)]
    if not len(known) or known.min() == known.max():
        found = f"only {known[0]:g}" if len(known) else "no value"
        raise ValueError(
            f"obs column {key!r} must vary over the training cells: found {found} in "
            f"{len(numbers)} cells. Leave it out of {argument}."
        )
    return float(known.mean()), float(known.std())


def as_number(key: str, level: object) -> object:
    """A level that cells are set to, text such as "80" read as a number, None as NaN."""
    if not isinstance(level, str):
        return np.nan if level is None else level
    number = pd.to_numeric(level, errors="coerce")
    if not np.isfinite(number):
        raise ValueError(
            f"obs column {key!r} is numeric in the fit: got {level!r}. Set it to a number."
        )
    return float(number)
