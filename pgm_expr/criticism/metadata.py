"""What is known of cells beside their counts, as columns that probes of states can take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..runs.subset import Subset
from .held_out import HeldOut

Column = tuple[np.ndarray, np.ndarray]  # of the cells of the fit, of those held out


def metadata(on: HeldOut) -> dict[str, Column]:
    """Columns by name: label, batch, covariates, perturbation, target, log library.

    Integers are levels, -1 where missing; floats are numbers, NaN where missing.
    """
    sides = on.known, on.held_out
    found = {}
    for name in ("label", "batch"):
        if on.held_out.column(name) is not None:
            found[name] = tuple(side.column(name) for side in sides)
    covariates = [_covariates(on, side) for side in sides]
    found |= {name: tuple(each[name] for each in covariates) for name in covariates[0]}
    if on.held_out.column("perturbation") is not None:
        found["perturbation"] = _combinations(*(side.column("perturbation") for side in sides))
    if on.held_out.column("target") is not None:
        found["target"] = tuple(side.column("target")[:, 0] for side in sides)
    if on.run.notes["source"].get("takes", "counts") == "counts":
        found["log library"] = tuple(np.log(side.library) for side in sides)
    return found


def _covariates(on: HeldOut, side: Subset) -> Mapping[str, np.ndarray]:
    """Each covariate of the condition's columns, the last of which says that it is missing."""
    encoding, found, start = on.run.encoding, {}, 0
    for name, width in encoding.widths().items():
        part = side.column("condition")[:, start : start + width]
        missing, start = part[:, -1] > 0, start + width
        if name in encoding.categories:
            found[name] = np.where(missing, -1, part.argmax(1))
        else:
            found[name] = np.where(missing, np.nan, part[:, 0])
    return found


def _combinations(known: np.ndarray, held_out: np.ndarray) -> Column:
    """Perturbations (n, P) received together as levels."""
    _, codes = np.unique(np.vstack([known, held_out]), axis=0, return_inverse=True)
    return codes.ravel()[: len(known)], codes.ravel()[len(known) :]
