"""Reject covariates that the model ignores: a condition must change what it is meant to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data import Cells
from ..runs.simulated_covariates import differ, kept_cells

if TYPE_CHECKING:
    from ..runs.fitted import Fitted

FEW = 100  # cells that are compared


def check_drawn(run: Fitted, condition: Mapping[str, object]) -> None:
    """ValueError for a column of obs that leaves all draws the same, from the same noise."""
    library, before = kept_cells(run.notes, FEW)
    for key, level in condition.items():
        after = run.encoding.set_to(before, {key: level}, len(library))
        one, other = (run.draw(library, covariates, 0) for covariates in (before, after))
        if differ(before, after).any() and np.array_equal(one, other):
            raise ValueError(
                f"cells drawn from the story {run.notes['story']} do not depend on {key!r}. "
                "Leave it out, or fit a story that conditions on it."
            )


def check_expressed(run: Fitted, cells: Cells, condition: Mapping[str, object]) -> None:
    """ValueError for a column of obs that leaves all expected counts the same, given states."""
    for key, level in condition.items():
        after = run.encoding.set_to(cells.columns, {key: level}, len(cells))
        _refuse_held(run, key, [n for n in after if after[n] is not cells.columns.get(n)])
        index = np.flatnonzero(differ(cells.columns, after))[:FEW]
        one, other = (
            run.expected(cells, index, covariates, library=1.0, draws=1) if len(index) else index
            for covariates in (cells.columns, after)
        )
        if len(index) and np.array_equal(one, other):
            raise ValueError(
                f"in the story {run.notes['story']}, expression does not depend on {key!r} once "
                "the state of a cell is known. Leave it out, or fit a story such as cvae."
            )


def _refuse_held(run: Fitted, key: str, changed: list[str]) -> None:
    """A covariate that a latent holds cannot change while that latent stays as inferred."""
    if set(changed) & set(getattr(run.model, "held", ())):
        raise ValueError(
            f"in the story {run.notes['story']}, the state of a cell holds {key!r}, so it is not "
            "changed while the state stays. Draw cells of it, or fit a story such as cvae."
        )
