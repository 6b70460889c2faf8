"""Are batches mixed among the nearest latent states? Figures of scib-metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import evaluation
from ..report import Table, markup
from . import chance
from .held_out import HeldOut
from .section import Section


def mixing(on: HeldOut) -> list[dict[str, Any]]:
    """How batches of held-out cells mix among the nearest states, within labels where known."""
    batches, labels = (on.held_out.column(name) for name in ("batch", "label"))
    if batches is None:
        raise ValueError("requires batches: got none. Pass batch_key to fit.")
    at = np.ones(len(batches), bool) if labels is None else labels >= 0
    within = None if labels is None else labels[at]
    found = evaluation.mixing(on.states.held_out[at], batches[at], within)
    return [{"what": name, **each._asdict()} for name, each in found.items()]


def page(found: list[dict[str, Any]]) -> list[str | Table]:
    """One row a figure."""
    rows = [(row["what"], *chance.cells(row)) for row in found]
    title = "Batches among the nearest states, within labels: higher is better mixed"
    return [Table(title, ("figure", *chance.COLUMNS), rows)]


SECTION = Section(
    name="mixing",
    question="Are batches mixed in the latent space?",
    measure=mixing,
    judge="the verdict on batches is that of the probes, see `structure`",
    page=page,
    html=lambda found: markup(*page(found)),
)
