"""Do the guide's posteriors agree with NUTS? A few cells, sampled with the model held."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..evaluation.guide import nuts, refine
from ..inference.tracing import Batch
from ..report import Table, markup
from .held_out import HeldOut
from .section import CHANCE, Section, Sentence, mark

CELLS = 4  # whose posteriors are sampled
DRAWS = 100  # of each of four chains, after as many to warm up
SURE = 2.0  # standard errors
GUIDES = {"guide": "guide", "refined": "per-cell refined"}


def reference(on: HeldOut) -> dict[str, Any]:
    """The guide, and per-cell refined posteriors, against NUTS on a few cells."""
    on.run.require_states("this section")
    some = on.held_out.every(CELLS)
    batch = next(iter(some.batches()))
    found = nuts.reference(*on.pair, batch, draws=DRAWS, warmup=DRAWS)
    with refine.refined_guide(*on.pair, batch, shared=found.shared) as refined:
        rows = {"guide": _agreement(found, on.run.guide, batch)}
        rows["refined"] = _agreement(found, refined, batch)
    return {
        "cells": [str(name) for name in some.names[: len(batch["library"])]],
        "draws": int(np.prod(found.draws.shape[:2])),
        "rhat": float(found.rhat.max()),
        "ess": float(found.ess.min()),
        **rows,
    }


def _agreement(found: nuts.Reference, guide: nn.Module, batch: Batch) -> dict[str, float]:
    agreed = nuts.agreement(found, guide, batch)
    return {
        "shift": float(np.sqrt(np.mean(agreed.shift**2))),
        "width": float(np.exp(np.mean(np.log(agreed.width)))),
        **{f"covers_{level:g}": share for level, share in agreed.coverage.items()},
        "covers_0.9_se": agreed.coverage_se[0.9],
        "mixed": agreed.mixed,
    }


def judge(found: dict[str, Any]) -> Sentence:
    """By the coverage of the guide's 90% intervals."""
    guide = found["guide"]
    covered, se = guide["covers_0.9"], guide.get("covers_0.9_se", 0.0)
    return Sentence(
        mark(0.9 - covered - SURE * se, 0.05, 0.1),
        f"Guide against NUTS: its 90% intervals cover {covered:.0%} of the posterior ± {se:.0%}; "
        f"means are shifted by {guide['shift']:.2f} posterior sd, sds are {guide['width']:.2f} "
        f"times those of NUTS ({len(found['cells'])} cells).",
        f"90% intervals cover at least 85% of the posterior by NUTS less {SURE:g} standard errors "
        f"over cells and dimensions; {CHANCE}; doubtful down to 80%",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """Whether the chains converged, and how both kinds of posterior agree with them."""
    chains = (
        f"NUTS on {len(found['cells'])} cells, {found['draws']} draws each: R-hat at most "
        f"{found['rhat']:.2f}, at least {found['ess']:,.0f} effective draws."
    )
    rows = [
        (
            name,
            f"{found[key]['shift']:.2f}",
            f"{found[key]['width']:.2f}",
            f"{found[key]['covers_0.5']:.0%}",
            f"{found[key]['covers_0.9']:.0%}",
        )
        for key, name in GUIDES.items()
    ]
    columns = ("posterior", "shift of mean, sd", "sd ratio", "50% covers", "90% covers")
    return [chains, Table("", columns, rows)]


SECTION = Section(
    name="reference",
    question="Do the guide's posteriors agree with NUTS?",
    measure=reference,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=40,
)
