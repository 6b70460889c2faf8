"""What states tell: labels, batches, unusual cells, differences between groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ... import evaluation
from ...evaluation import differential
from ...evaluation import typicality as unusual
from ..bench import Bench, plain

WORST = 10


def structure(on: Bench) -> list[dict[str, Any]]:
    """What a linear probe reads of states: the batch within types, and types."""
    z, known = (on.run.use(side.batches()).loc.cpu().numpy() for side in (on.held_out, on.known))
    rows, groups = [], {}
    if on.labels is not None:
        pair = on.known.column("label"), on.held_out.column("label")
        groups = dict(train_groups=pair[0], test_groups=pair[1])
        rows.append(_leak("label", evaluation.leakage(known, pair[0], z, pair[1])))
    if on.held_out.column("batch") is not None:
        pair = on.known.column("batch"), on.held_out.column("batch")
        found = evaluation.leakage(known, pair[0], z, pair[1], **groups)
        rows.append(_leak("batch within label" if groups else "batch", found))
    if not rows:
        raise ValueError("the data name no label and no batch. Fit with labels_key or batch_key.")
    return rows


def _leak(what: str, found: evaluation.Leakage) -> dict[str, Any]:
    return {"what": what, "score": found.accuracy, "chance": found.chance, "p": found.p}


def typical(on: Bench) -> dict[str, Any]:
    """Cells that the story would hardly draw at their depth."""
    found = unusual.typicality(*on.pair, on.held_out.batches(), objective=on.run.story.objective)
    order = np.argsort(found.score)[:WORST]
    ranks = [np.argsort(np.argsort(v)) for v in (found.score, on.held_out.library)]
    return {
        "spearman_library": float(np.corrcoef(*ranks)[0, 1]),
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


def kept_differences(on: Bench) -> dict[str, Any]:
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
