"""Which cells lie far from the training cells? Distances of latent states."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import evaluation
from ..evaluation.counts.statistics import rank_correlation
from ..report import Table, markup
from .held_out import HeldOut
from .section import Section

WORST, SCREEN = 10, 3  # cells that are named: in all, on the terminal


def novelty(on: HeldOut) -> dict[str, Any]:
    """Distances of held-out states from those of the fit, and the cells farthest away."""
    known, z = on.states
    near = evaluation.neighbour_distance(known, z)
    far = evaluation.mahalanobis(known, z)
    usual = np.quantile(evaluation.mahalanobis(known, known), 0.99)
    library = on.held_out.library
    return {
        "spearman_library": {
            "neighbours": rank_correlation(near, library),
            "mahalanobis": rank_correlation(far, library),
        },
        "share_beyond_99": float((far > usual).mean()),
        "most_novel": [
            {
                "cell": str(on.held_out.names[i]),
                "label": on.label_of(i),
                "library": float(library[i]),
                "neighbours": float(near[i]),
                "mahalanobis": float(far[i]),
            }
            for i in np.argsort(-near)[:WORST]
        ],
        "by_cell": {"novelty_neighbours": near.tolist(), "novelty_mahalanobis": far.tolist()},
    }


def page(found: dict[str, Any]) -> list[str | Table]:
    """The share of distant cells, and the most distant ones."""
    rows = [
        (
            row["cell"],
            row["label"] or "",
            f"{row['library']:,.0f}",
            f"{row['neighbours']:.2f}",
            f"{row['mahalanobis']:.2f}",
        )
        for row in found["most_novel"]
    ]
    columns = ("cell", "label", "library", "neighbours", "Mahalanobis")
    return [
        f"{found['share_beyond_99']:.1%} of held-out cells have a Mahalanobis distance above the "
        "99% quantile of the cells of the fit; Spearman correlation of the distance to neighbours "
        f"with library {found['spearman_library']['neighbours']:+.2f}.",
        Table("Distances of the farthest cells", columns, rows, words=2, screen=SCREEN),
    ]


SECTION = Section(
    name="novelty",
    question="Which cells lie far from the training cells?",
    measure=novelty,
    judge="a distant cell is a finding about the cell, not about the story",
    page=page,
    html=lambda found: markup(*page(found)),
    by_cell=("novelty_neighbours", "novelty_mahalanobis"),
)
