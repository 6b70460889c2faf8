"""The figures of a run on held-out cells, beside baselines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import evaluation, zoo
from ..data import sweep
from ..inference import PosteriorCollapse
from ..runs.fitted import SWEEP, Fitted
from ..runs.folder import METRICS

if TYPE_CHECKING:
    from anndata import AnnData

FEW = 64  # held-out cells in a minibatch, each with many draws


def evaluate(
    run: Fitted, data: AnnData | str | Path | None = None, *, refine: int = 0
) -> dict[str, Any]:
    """Held-out log p(x | library), baselines, probes and draws: the figures of `metrics.json`.

    Parameters
    ----------
    data
        Cells to judge on; the test cells of the fit by default, and given the data of the fit
        again. Other data are judged on all their cells, with a warning where cells of the same
        names were in the fit.
    refine
        Gradient steps on the posterior of each cell, to estimate the amortisation gap; 0 leaves
        it out.

    Returns
    -------
    Figures by name, likelihoods in nats per cell; `table` has one row per model. They become
    `run.metrics`, and `metrics.json` of its folder where they are of the fit's test cells.

    Examples
    --------
    >>> figures = run.evaluate()
    >>> figures["heldout_elbo"] < figures["heldout_iwae"]
    True
    """
    table = run.training_table(data)
    known = table.cells.to(run.device)
    cells, held_out = run.held_out(data)
    metrics, rows = evaluation.judge(
        run.model,
        run.guide,
        lambda: sweep(known, table.split.development, SWEEP),
        lambda: sweep(cells, held_out, FEW),
        labels=len(table.encoding.labels) if "label" in cells.columns else 0,
        objective=run.story.objective,
        measure=zoo.measure(run.model),
    )
    if refine:
        metrics |= _refined(run, run.unlabelled(cells, held_out), refine)
    seeds = {"split_seed": run.notes["source"]["split_seed"], "seed": run.notes["plan"]["seed"]}
    run.metrics = {**metrics, **_speed(run), **seeds, "table": rows}
    if data is None:
        run.keep(METRICS, run.metrics)
    if run.metrics["collapse"]:
        warnings.warn(run.metrics["collapse"], PosteriorCollapse, stacklevel=2)
    return run.metrics


def _refined(run: Fitted, batches: Iterator[dict[str, Tensor]], steps: int) -> dict[str, float]:
    """The amortisation gap in nats per cell, with its standard error over cells."""
    found = evaluation.amortisation_gap(run.model, run.guide, batches, steps=steps)
    gap, error = found.gap.mean().item(), evaluation.standard_error(found.gap)
    return {"amortisation_gap": gap, "amortisation_gap_se": error, "refinement_steps": steps}


def _speed(run: Fitted) -> dict[str, float | None]:
    """Cells seen per second of training epochs after the first."""
    n, size = run.notes["cells"]["train"], run.notes["plan"]["batch_size"]
    later = [row["seconds"] for row in run.history[1:]]
    seen = n // min(size, n) * min(size, n) * len(later)
    return {"cells_per_second": seen / sum(later) if later else None}
