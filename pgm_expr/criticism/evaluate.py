"""Evaluate a run: likelihood, latent use, probes and draws on held-out cells."""

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

LABEL = ("label",)  # for baseline and probe; the story does not see it
FEW = 64  # held-out cells per minibatch, each with many draws


def evaluate(
    run: Fitted, data: AnnData | str | Path | None = None, *, refine: int = 0
) -> dict[str, Any]:
    """Evaluate a run on held-out cells, beside baselines.

    Held-out log p(x | library), latent use, probes of labels and statistics of draws. The figures
    become `run.metrics`, and `metrics.json` in the run's folder where they are of the fit's test
    cells.

    Parameters
    ----------
    data
        Cells; the test cells of the fit by default, and given the data of the fit again. Other
        data are evaluated on all their cells, with a warning where cells of the same names were
        in the fit.
    refine
        Steps of per-cell refinement, which estimate the amortisation gap; none by default.

    Returns
    -------
    dict
        Figures by name, likelihoods in nats per cell; `table` has one row per model.

    Raises
    ------
    ValueError
        With `refine`, for a story with a discrete latent, or without a latent state of cells.

    Warns
    -----
    PosteriorCollapse
        Where the latent space is not in use.

    Examples
    --------
    >>> figures = run.evaluate()
    >>> figures["heldout_elbo"] < figures["heldout_iwae"]
    True
    """
    if refine:
        run.require_states("refine")
    table = run.training_table(data)
    known = table.cells.to(run.device)
    cells, held_out = run.held_out(data)
    metrics, rows = evaluation.judge(
        run.model,
        run.guide,
        lambda: sweep(known.withheld(but=LABEL), table.split.development, SWEEP),
        lambda: sweep(cells.withheld(but=LABEL), held_out, FEW),
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
    """Amortisation gap, nats per cell, with its standard error over cells."""
    found = evaluation.amortisation_gap(run.model, run.guide, batches, steps=steps)
    gap, error = found.gap.mean().item(), evaluation.standard_error(found.gap)
    return {"amortisation_gap": gap, "amortisation_gap_se": error, "refinement_steps": steps}


def _speed(run: Fitted) -> dict[str, float | None]:
    """Training cells per second, in epochs after the first."""
    n, size = run.notes["cells"]["train"], run.notes["plan"]["batch_size"]
    later = [row["seconds"] for row in run.history[1:]]
    seen = n // min(size, n) * min(size, n) * len(later)
    return {"cells_per_second": seen / sum(later) if later else None}
