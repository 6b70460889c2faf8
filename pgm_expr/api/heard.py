"""Whether a story answers to what is set of its cells: refused where nothing would change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data import Cells, change
from .population import differ, kept_cells

if TYPE_CHECKING:
    from .run import Run

FEW = 100  # cells that are asked


def check_drawn(run: Run, condition: Mapping[str, object]) -> None:
    """ValueError for a column of obs that leaves all draws the same, from the same noise."""
    library, own = kept_cells(run.notes, FEW)
    for key, level in condition.items():
        other = change(run.encoding, own, {key: level}) if own else {}
        before, after = (run.draw(library, told, 0) for told in (own, other))
        if differ(own, other).any() and np.array_equal(before, after):
            raise ValueError(
                f"cells drawn from the story {run.notes['story']} do not depend on {key!r}. "
                "Leave it out, or fit a story that is about it."
            )


def check_expressed(run: Run, cells: Cells, condition: Mapping[str, object]) -> None:
    """ValueError for a column of obs that leaves all expected counts the same, given states."""
    for key, level in condition.items():
        at = change(run.encoding, cells.columns, {key: level})
        _refuse_held(run, key, [n for n in at if at[n] is not cells.columns.get(n)])
        index = np.flatnonzero(differ(cells.columns, at))[:FEW]
        before, after = (
            run.expected(cells, index, told, library=1.0, draws=1) if len(index) else index
            for told in (cells.columns, at)
        )
        if len(index) and np.array_equal(before, after):
            raise ValueError(
                f"in the story {run.notes['story']}, expression does not depend on {key!r} once "
                "the state of a cell is known. Leave it out, or fit a story such as cvae."
            )


def _refuse_held(run: Run, key: str, changed: list[str]) -> None:
    """What a latent holds cannot be another while that latent stays what it was."""
    if set(changed) & set(getattr(run.model, "held", ())):
        raise ValueError(
            f"in the story {run.notes['story']}, the state of a cell holds {key!r}, so it is not "
            "changed while the state stays. Draw cells of it, or fit a story such as cvae."
        )
