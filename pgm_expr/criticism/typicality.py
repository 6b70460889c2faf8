"""Which cells are unlikely under the story at their depth? Bounds beside those of drawn cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom

from .. import evaluation
from ..evaluation.counts.statistics import rank_correlation
from ..report import Table, markup
from .held_out import HeldOut
from .section import ALPHA, CHANCE, GOOD, Section, Sentence, mark

WORST, SCREEN = 10, 3  # cells that are named: in all, on the terminal
SHRUNK = 0.8  # as many cells as are worth those here, beside four times as many drawn ones


def typicality(on: HeldOut) -> dict[str, Any]:
    """Typicality of each cell given its depth, and the least typical ones."""
    batches, objective = on.held_out.batches(), on.run.story.objective
    found = evaluation.typicality(*on.pair, batches, objective=objective, totals=on.totals)
    return {
        "spearman_library": rank_correlation(found.score, on.held_out.library),
        "share_below_0.05": float((found.p < 0.05).mean()),
        "cells": len(found.p),
        "least_typical": [
            {
                "cell": str(on.held_out.names[i]),
                "p": float(found.p[i]),
                "score": float(found.score[i]),
            }
            for i in np.argsort(found.score)[:WORST]
        ],
        "by_cell": {"typicality": found.score.tolist(), "typicality_p": found.p.tolist()},
    }


def judge(found: dict[str, Any]) -> Sentence:
    """By the share of cells of small p."""
    share, cells = found["share_below_0.05"], found.get("cells", 1_000_000)
    n = round(cells * SHRUNK)
    sure = binom.sf(round(share * n) - 1, n, 0.05) <= ALPHA
    return Sentence(
        mark(share, 0.1, 0.2) if sure else GOOD,
        f"Unusual cells: {share:.1%} have p < 0.05 at their depth; least typical: "
        f"{found['least_typical'][0]['cell']}.",
        f"at most 10% of held-out cells have p < 0.05, or not significantly more than 5%; "
        f"{CHANCE}; doubtful up to 20%",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """The share of unusual cells, and the least typical ones."""
    rows = [
        (row["cell"], f"{row['score']:.2f}", f"{row['p']:.3f}") for row in found["least_typical"]
    ]
    return [
        f"{found['share_below_0.05']:.1%} of cells have p < 0.05 (expected under the story: 5%); "
        f"Spearman correlation of the score with library {found['spearman_library']:+.2f}.",
        Table("Least typical cells", ("cell", "score", "p"), rows, screen=SCREEN),
    ]


SECTION = Section(
    name="typicality",
    question="Which cells are unlikely under the story at their depth?",
    measure=typicality,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=90,
    by_cell=("typicality", "typicality_p"),
)
