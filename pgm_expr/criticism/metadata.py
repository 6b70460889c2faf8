"""What is known of cells beside their counts, as columns that probes of states can take."""

from __future__ import annotations

import numpy as np

from .held_out import HeldOut

Column = tuple[np.ndarray, np.ndarray]  # of the cells of the fit, of those held out


def metadata(on: HeldOut) -> dict[str, Column]:
    """Columns by name: label, batch, covariates, perturbation, target, log library.

    Integers are levels, -1 where missing; floats are numbers, NaN where missing.
    """
    found, number = {}, len(on.known)
    for field, columns in on.run.encoding.parts(_both(on)):
        decoded = field.decode(columns)  # of both sides at once, so that codes agree
        found[field.name] = decoded[:number], decoded[number:]
    if on.run.takes == "counts":
        found["log library"] = np.log(on.known.library), np.log(on.held_out.library)
    return found


def _both(on: HeldOut) -> dict[str, np.ndarray]:
    """Encoded entries of the cells of the fit, then of those held out, where both have them."""
    known, held_out = on.known.cells.columns, on.held_out.cells.columns
    return {
        name: np.concatenate([known[name][on.known.index], held_out[name][on.held_out.index]])
        for name in known
        if name in held_out
    }
