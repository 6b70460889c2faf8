"""A report on non-finite values: which site, parameters, cells and genes, in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pyro
import torch
from torch import Tensor

from .checkpoint import save_tensors
from .objective import Objective
from .tracing import Batch, sample_sites

NONFINITE = "nonfinite.safetensors"


def postmortem(
    objective: Objective,
    batch: Batch,
    epoch: int,
    number: int,
    folder: Path | None = None,
) -> None:
    """Repeat a minibatch whose step was skipped and report what is non-finite.

    Parameters
    ----------
    objective
        The objective in training.
    batch
        The minibatch.
    epoch, number
        When its step was skipped: epoch and step, counted from 0.
    folder
        Where the minibatch is saved as `nonfinite.safetensors`; None for nowhere.

    Raises
    ------
    FloatingPointError
        If values are non-finite again; names parameters, sites, cells and genes. Otherwise there
        is a warning.
    """
    place = f"epoch {epoch}, step {number}"
    if folder is not None:
        save_tensors(folder / NONFINITE, batch, {"epoch": epoch, "step": number})
    with pyro.validation_enabled(False), torch.random.fork_rng():
        causes = [
            *_parameters(objective),
            *_sites(objective, batch),
            *_gradients(objective, batch),
        ]
    if causes:
        do = "Lower the learning rate" + (f", look at {NONFINITE}." if folder else ".")
        raise FloatingPointError(f"non-finite numbers at {place}: {'; '.join(causes)}. {do}")
    warnings.warn(f"skipped a step with a non-finite gradient at {place}", stacklevel=2)


def _parameters(objective: Objective) -> Iterator[str]:
    for name, parameter in objective.named_parameters():
        if not parameter.isfinite().all():
            yield f"parameter {name}"


@torch.no_grad()
def _sites(objective: Objective, batch: Batch) -> Iterator[str]:
    guide_trace, model_trace = objective.traces(batch)
    for half, trace in (("guide", guide_trace), ("model", model_trace)):
        for site in sample_sites(trace):
            fn = site["fn"]
            entries = fn.base_dist if hasattr(fn, "base_dist") else fn
            bad = ~entries.log_prob(site["value"]).isfinite()
            if bad.any():
                yield f"{half} site '{site['name']}'" + (_where(bad, batch) if bad.ndim else "")


def _where(bad: Tensor, batch: Batch) -> str:
    """The cells and columns of an (..., N, G) or (..., N) mask, at most five of each."""
    if bad.ndim < 2:
        bad = bad.unsqueeze(-1)
    cells, columns = (bad.flatten(0, -3).any(0) if bad.ndim > 2 else bad).nonzero(as_tuple=True)
    cells = cells.unique()
    cells = batch["index"][cells] if "index" in batch else cells
    return f" (cells {_few(cells)}; columns {_few(columns.unique())})"


def _few(numbers: Tensor) -> str:
    shown = ", ".join(str(n) for n in numbers[:5].tolist())
    return shown + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _gradients(objective: Objective, batch: Batch) -> Iterator[str]:
    objective.zero_grad()
    objective(**batch).backward()
    for name, parameter in objective.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"gradient of {name}"
    objective.zero_grad()
