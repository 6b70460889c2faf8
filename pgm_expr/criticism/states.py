"""What states tell of cells: new ones, unusual ones, differences between groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..evaluation.counts import typicality as unusual
from ..evaluation.effects import differential
from ..evaluation.latent import novelty
from .held_out import HeldOut, plain

WORST = 10


def novel(on: HeldOut) -> dict[str, Any]:
    """Cells whose states lie far from those of the fit."""
    known, z = on.states
    near, far = novelty.neighbour_distance(known, z), novelty.mahalanobis(known, z)
    usual = np.quantile(novelty.mahalanobis(known, known), 0.99)
    library, labels = on.held_out.library, on.labels
    return {
        "spearman_library": {
            "neighbours": _rank(near, library),
            "mahalanobis": _rank(far, library),
        },
        "share_beyond_99": float((far > usual).mean()),
        "most_novel": [
            {
                "cell": str(on.held_out.names[i]),
                "label": None if labels is None else str(labels[i]),
                "library": float(library[i]),
                "neighbours": float(near[i]),
                "mahalanobis": float(far[i]),
            }
            for i in np.argsort(-near)[:WORST]
        ],
        "by_cell": {"novelty_neighbours": near.tolist(), "novelty_mahalanobis": far.tolist()},
    }


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    """Their rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def typical(on: HeldOut) -> dict[str, Any]:
    """Cells that the story would hardly draw at their depth."""
    found = unusual.typicality(*on.pair, on.held_out.batches(), objective=on.run.story.objective)
    order = np.argsort(found.score)[:WORST]
    return {
        "spearman_library": _rank(found.score, on.held_out.library),
        "share_below_0.05": float((found.p < 0.05).mean()),
        "least_typical": [
            {
                "cell": str(on.held_out.names[i]),
                "p": float(found.p[i]),
                "score": float(found.score[i]),
            }
            for i in order
        ],
        "by_cell": {"typicality": found.score.tolist(), "typicality_p": found.p.tolist()},
    }


def kept_differences(on: HeldOut) -> dict[str, Any]:
    """Fold changes between the two commonest labels, or batches, in posterior draws."""
    name = next((n for n in ("label", "batch") if on.held_out.column(n) is not None), None)
    if name is None:
        raise ValueError("the data name no label and no batch. Fit with labels_key or batch_key.")
    codes = on.held_out.column(name)
    kinds, sizes = np.unique(codes[codes >= 0], return_counts=True)
    if len(kinds) < 2:
        raise ValueError(f"the held-out cells have one {name}. Hold out more.")
    pair = kinds[np.argsort(-sizes)[:2]]
    at = np.isin(codes, pair)
    groups = (codes[at] == pair[1]).astype(int)
    x = torch.cat([*on.drawn("posterior")]).cpu().numpy()
    found = differential.kept(on.held_out.counts[at], groups, x[at], groups)
    names = getattr(on.run.encoding, "labels" if name == "label" else "batches")
    row = found._asdict() | {"ceiling": found.ceiling._asdict(), "of": name}
    return plain(row) | {"groups": [str(names[k]) for k in pair]}
