"""What would be if: encoded columns of cells with one column of obs set to the same for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pgm_expr.data.columns import one_hot, seen_codes, standardised
from pgm_expr.data.encode import Encoding
from pgm_expr.data.hints import listing, near

Encoded = Mapping[str, np.ndarray]


def change(encoding: Encoding, encoded: Encoded, levels: Mapping[str, object]) -> dict:
    """The encoded columns of N cells, each column of obs named in `levels` set to that level.

    Raises ValueError for a column that the fit did not use and a level it has not seen.
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
        return "batch", seen_codes(row, key, encoding.batches), ()
    if key == columns.labels_key:
        return "label", seen_codes(row, key, encoding.labels), ()
    if key == columns.perturbation_key:
        return "perturbation", encoding.encode_perturbation(row), ()
    if key in encoding.categories:
        known = encoding.categories[key]
        return "condition", one_hot(seen_codes(row, key, known), known), _block(encoding, key)
    if key in encoding.moments:
        return "condition", standardised(row, key, *encoding.moments[key]), _block(encoding, key)
    raise ValueError(
        f"the fit did not use obs column {key!r}: it used {listing(columns.keys())}."
        f"{near(key, columns.keys())} Name one of these."
    )


def _block(encoding: Encoding, key: str) -> tuple[slice]:
    """Where the features of a covariate stand in `condition`."""
    start = 0
    for name, width in encoding.widths().items():
        if name == key:
            return (slice(start, start + width),)
        start += width
    raise KeyError(key)
