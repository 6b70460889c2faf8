"""What would be if: encoded columns of cells with one column of obs set to the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import NoReturn

import numpy as np
import pandas as pd

from pgm_expr.data.columns import one_hot, seen_codes, standardised, text_of
from pgm_expr.data.encode import Encoding, parts_of
from pgm_expr.data.hints import listing, near

Encoded = Mapping[str, np.ndarray]


def change(encoding: Encoding, encoded: Encoded, levels: Mapping[str, object]) -> dict:
    """The encoded columns of N cells, each column of obs named in `levels` set to that level.

    A level may be text, such as "80", for a number too. Raises ValueError for a column that the
    fit did not use or predicts, for a level it has not seen, and for text that is no number.
    """
    changed = dict(encoded)
    for key, level in levels.items():
        name, new, where = _encoded(encoding, key, pd.DataFrame({key: [level]}))
        before = changed.get(name, new)
        after = np.broadcast_to(before, (_cells(encoded), *before.shape[1:])).copy()
        after[(slice(None), *where)] = new
        changed[name] = after
    return changed


def _cells(encoded: Encoded) -> int:
    return len(next(iter(encoded.values())))


def _encoded(encoding: Encoding, key: str, row: pd.DataFrame) -> tuple[str, np.ndarray, tuple]:
    """Which key of a minibatch a column of obs is, its value there, and at which features."""
    columns = encoding.columns
    if key == columns.batch_key:
        return "batch", _code(row, key, encoding.batches), ()
    if key == columns.labels_key:
        return "label", _code(row, key, encoding.labels), ()
    if key == columns.perturbation_key:
        parts = partial(parts_of, control=columns.control)
        _check_level(row, key, encoding.perturbations, parts)
        return "perturbation", encoding.encode_perturbation(row), ()
    if key in encoding.categories:
        known = encoding.categories[key]
        return "condition", one_hot(_code(row, key, known), known), _block(encoding, key)
    if key in encoding.moments:
        number = standardised(_as_number(row, key), key, *encoding.moments[key])
        return "condition", number, _block(encoding, key)
    _refuse(encoding, key)


def _code(row: pd.DataFrame, key: str, known: Sequence[str]) -> np.ndarray:
    _check_level(row, key, known)
    return seen_codes(row, key, known)


def _alone(level: str) -> tuple[str]:
    return (level,)


def _check_level(
    row: pd.DataFrame,
    key: str,
    known: Sequence[str],
    parts: Callable[[str], tuple[str, ...]] = _alone,
) -> None:
    """ValueError for a level with a part that the fit has not seen."""
    level = row[key].iloc[0]
    if pd.isna(level):
        return
    level = text_of(level)
    for part in parts(level):
        if part not in known:
            raise ValueError(
                f"obs column {key!r} holds {level!r} in the condition: the fit has not seen "
                f"{part!r}. Known are {listing(known)}.{near(part, known)} Name one of these."
            )


def _as_number(row: pd.DataFrame, key: str) -> pd.DataFrame:
    """The row with its text read as a number: "80" is 80, whatever a categorical "80" is."""
    level = row[key].iloc[0]
    if not isinstance(level, str):
        return row
    number = pd.to_numeric(level, errors="coerce")
    if not np.isfinite(number):
        raise ValueError(
            f"obs column {key!r} is a number in the fit: got {level!r}. Set it to a number."
        )
    return pd.DataFrame({key: [float(number)]})


def _refuse(encoding: Encoding, key: str) -> NoReturn:
    columns = encoding.columns
    if key == columns.target_key:
        raise ValueError(
            f"obs column {key!r} is what the fit predicts: it cannot be set. Name another column."
        )
    known = [name for name in columns.keys() if name != columns.target_key]
    raise ValueError(
        f"the fit did not use obs column {key!r}: it used {listing(known)}.{near(key, known)}"
        + (" Name one of these." if known else " Fit with the column.")
    )


def _block(encoding: Encoding, key: str) -> tuple[slice]:
    """Where the features of a covariate stand in `condition`."""
    widths = encoding.widths()
    start = sum(widths[name] for name in takewhile(lambda name: name != key, widths))
    return (slice(start, start + widths[key]),)
