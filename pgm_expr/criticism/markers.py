"""Are the markers of each label expressed in cells drawn from the posteriors of its cells?"""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import norm

from .. import evaluation
from ..report import Table, markup
from .held_out import HeldOut
from .section import ALPHA, BAD, CHANCE, DOUBTFUL, GOOD, Section, Sentence

SCREEN = 5  # labels that the terminal names


def markers(on: HeldOut) -> list[dict[str, Any]]:
    """Share of each label's markers that are expressed: in drawn and in held-out cells."""
    types, known = (side.column("label") for side in (on.held_out, on.known))
    if types is None or known is None:
        raise ValueError("requires labels: got none. Pass labels_key to fit.")
    x = torch.cat([*on.drawn("posterior")]).cpu().numpy()
    found = evaluation.markers_on(x, types, on.held_out.counts, types, on.known.counts, known)
    names = on.run.encoding.labels
    return [{"label": str(names[kind]), **each._asdict()} for kind, each in found.items()]


def _off(row: dict[str, Any]) -> float:
    """Absolute difference of the shares."""
    return abs(row["drawn"] - row["held_out"])


def judge(found: list[dict[str, Any]]) -> Sentence:
    """By the number of labels whose markers differ."""
    sure = norm.isf(ALPHA / (2 * len(found)))  # of the worst of all labels
    off = [row["label"] for row in found if _off(row) > max(0.1, sure * row["se"])]
    but = f", except {', '.join(off)}" if off else ""
    return Sentence(
        GOOD if not off else DOUBTFUL if len(off) <= len(found) / 4 else BAD,
        f"Markers: those of {len(found)} labels are expressed as often as in held-out cells{but}.",
        "share of markers expressed within 0.1 of that in held-out cells, or not significantly "
        f"for any label; {CHANCE}; doubtful where at most a quarter of the labels differ",
    )


def page(found: list[dict[str, Any]]) -> list[str | Table]:
    """All labels, the largest difference first."""
    rows = [
        (row["label"], f"{row['drawn']:.1%}", f"{row['held_out']:.1%}", f"{row['se']:.1%}")
        for row in sorted(found, key=lambda row: -_off(row))
    ]
    title = f"Share of markers expressed, {len(found)} labels, the largest difference first"
    columns = ("label", "drawn cells", "held-out cells", "standard error")
    return [Table(title, columns, rows, screen=SCREEN)]


SECTION = Section(
    name="markers",
    question="Are markers expressed in cells drawn for their label?",
    measure=markers,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=70,
)
