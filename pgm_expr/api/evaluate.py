"""The figures of a run on held-out cells, beside baselines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import evaluation, zoo
from ..data import sweep

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run

SWEEP = 512  # cells of the fit a minibatch
FEW = 64  # held-out cells, each with many draws


def evaluate(run: Run, data: AnnData | str | Path | None, refine: int) -> dict[str, Any]:
    """See `Run.evaluate`."""
    run.reread(data)
    known = run.table.cells.to(run.device)
    cells, held_out = run.held_out(data)
    metrics, rows = evaluation.judge(
        run.model,
        run.guide,
        lambda: sweep(known, run.table.split.development, SWEEP),
        lambda: sweep(cells, held_out, FEW),
        labels=len(run.table.encoding.labels) if "label" in cells.columns else 0,
        objective=run.story.objective,
        measure=zoo.measure(run.model),
    )
    if refine:
        metrics |= _refined(run, run.unlabelled(cells, held_out), refine)
    seeds = {"split_seed": run.notes["source"]["split_seed"], "seed": run.notes["plan"]["seed"]}
    return {**metrics, **_speed(run), **seeds, "table": rows}


def _refined(run: Run, batches: Iterator[dict[str, Tensor]], steps: int) -> dict[str, float]:
    """The amortisation gap in nats per cell, with its standard error over cells."""
    found = evaluation.amortisation_gap(run.model, run.guide, batches, steps=steps)
    gap, error = found.gap.mean().item(), evaluation.standard_error(found.gap)
    return {"amortisation_gap": gap, "amortisation_gap_se": error, "refinement_steps": steps}


def _speed(run: Run) -> dict[str, float | None]:
    """Cells seen per second of training epochs after the first."""
    n, size = run.notes["cells"]["train"], run.notes["plan"]["batch_size"]
    later = [row["seconds"] for row in run.history[1:]]
    seen = n // min(size, n) * min(size, n) * len(later)
    return {"cells_per_second": seen / sum(later) if later else None}
