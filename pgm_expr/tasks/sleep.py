"""Recalibrate a guide on cells that its story simulates; the model does not change."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import torch

from .. import inference
from ..data import epoch
from ..inference.progress import tally
from ..inference.threads import few_threads

if TYPE_CHECKING:
    from torch import Tensor

    from ..runs.fitted import Fitted

STEPS = 4000
EVERY = 100  # steps per recorded figure, their mean
Run = TypeVar("Run", bound="Fitted")


def sleep(run: Run, steps: int = STEPS, *, progress: bool = True) -> Run:
    """Train the guide further, in place, on cells simulated from the story (the sleep phase).

    Posteriors of states become better calibrated, and mostly more accurate: compare
    `notes["sleep"]`, the bound of the validation cells before and after. The model stays as it
    is. The run is no longer tied to the folder it was loaded from; save it to keep it.

    Parameters
    ----------
    steps
        Minibatches; takes about as long as as many steps of a fit.
    progress
        Show a bar on stderr.

    Returns
    -------
    The run itself.

    Raises
    ------
    ValueError
        For a story whose prior is built from the guide (`vamp`), and for steps below 1.

    References
    ----------
    Hinton et al., Science 1995, https://doi.org/10.1126/science.7761831

    Examples
    --------
    >>> slept = pgm_expr.load(folder).sleep(5, progress=False)
    >>> slept.notes["sleep"]["steps"]
    5
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1: got {steps}.")
    run.require_states("sleep")
    before = _validation(run)
    rows = inference.sleep(run.model, run.guide, _endless(run), steps)
    genes = len(run.training_table().cells.genes)
    with few_threads(run.notes["plan"]["batch_size"] * genes):
        losses = torch.tensor([*tally(rows, range(steps), what="step", show=progress)])
    run.notes["sleep"] = {
        "steps": steps,
        "log_q": [-float(part.mean()) for part in losses.split(EVERY)],
        "validation_before": before,
        "validation_after": _validation(run),
    }
    run.metrics, run.folder = {}, None  # both were of the guide before
    return run


def _endless(run: Fitted) -> Iterator[dict[str, Tensor]]:
    """Epochs of the training cells, without their labels, one after the other."""
    cells, size = run.training_cells().withheld(), run.notes["plan"]["batch_size"]
    for number in count():
        yield from epoch(cells, run.training_table().split.train, size, number)


def _validation(run: Fitted) -> float:
    """The bound of the validation cells, nats per cell."""
    cells, split = run.training_cells(), run.training_table().split
    return inference.score(run.bound(), run.unlabelled(cells, split.validation))
