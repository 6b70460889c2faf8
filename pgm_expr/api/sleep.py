"""A run's guide, trained further on cells that its story draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING

import torch

from .. import evaluation, inference
from ..data import epoch
from .threads import few_threads

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run

SLEEP = 4000  # steps
EVERY = 100  # steps that a figure is the mean of


def sleep(run: Run, *, steps: int = SLEEP, progress: Callable[[Iterable], Iterable] = iter) -> Run:
    """See `Run.sleep`."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1: got {steps}.")
    run.reread()
    before = _validation(run)
    rows = inference.sleep(run.model, run.guide, _endless(run), steps)
    with few_threads(run.notes["plan"]["batch_size"] * len(run.table.cells.genes)):
        losses = torch.tensor([*progress(rows)])
    run.notes["sleep"] = {
        "steps": steps,
        "log_q": [-float(part.mean()) for part in losses.split(EVERY)],
        "validation_before": before,
        "validation_after": _validation(run),
    }
    run.metrics = {}  # they were of the guide as it was
    return run


def _endless(run: Run) -> Iterator[dict[str, Tensor]]:
    """Epochs of the training cells, without their labels, one after the other."""
    cells, plan = run.table.cells.to(run.device), run.notes["plan"]
    for number in count():
        yield from evaluation.withheld(
            epoch(cells, run.table.split.train, plan["batch_size"], number)
        )


def _validation(run: Run) -> float:
    """The bound of the validation cells, nats per cell."""
    cells = run.table.cells.to(run.device)
    return inference.score(run.bound(), run.unlabelled(cells, run.table.split.validation))
