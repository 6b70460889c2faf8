"""The engine: one plain torch loop, resumable to the bit.

An epoch is a function of the weights, the optimizer's state and its own number: order and noise
are seeded from (seed, epoch). So a checkpoint holds no generator, and a run that was killed and
resumed ends in the weights of the run that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from .lint import check_story
from .objective import Objective
from .postmortem import postmortem
from .resume import CHECKPOINT, TrainingState
from .rng import VALIDATION_SEED, seeded
from .schedule import cyclical, warmup
from .tracing import Batch

LEAST = {"batch_size": 1, "patience": 1, "learning_rate": 1e-12}  # 0 elsewhere


@dataclass(frozen=True)
class Plan:
    """Settings of training; all of them are recorded with the run.

    Parameters
    ----------
    epochs
        Maximal number of passes over the training cells.
    batch_size
        Cells in a minibatch.
    learning_rate
        Learning rate of AdamW.
    weight_decay
        Weight decay of AdamW, on the weights of linear layers only.
    warmup_epochs
        Epochs over which beta rises to its value; 0 keeps it constant.
    cycles
        Number of rises of beta during the warm-up; 0 is one linear rise.
    patience
        Epochs without a better validation bound, counted from the end of the warm-up, after which
        training stops. The weights of the best epoch are kept.
    beta
        Weight of the KL after the warm-up, see `Objective.temper`.
    free_bits
        Nats that each latent dimension costs at least, see `Objective.free_bits`.
    supervision
        Weight of the observed sites that a model lists in `supervised`, such as a label.
    seed
        Seed of order and noise.

    Raises
    ------
    ValueError
        If a setting is out of range or of the wrong type.

    References
    ----------
    Loshchilov and Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101 (AdamW)

    Examples
    --------
    >>> Plan(epochs=50, warmup_epochs=10).patience
    40
    >>> Plan(epochs=1.5)
    Traceback (most recent call last):
        ...
    ValueError: epochs must be a whole number of at least 0: got 1.5.
    """

    epochs: int = 400
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1.0
    warmup_epochs: int = 20
    cycles: int = 0
    patience: int = 40
    beta: float = 1.0
    free_bits: float = 0.0
    supervision: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, least = getattr(self, setting.name), LEAST.get(setting.name, 0)
            whole = isinstance(setting.default, int)
            if type(value) not in ({int} if whole else {int, float}) or not value >= least:
                what = "a whole number" if whole else "a number"
                raise ValueError(
                    f"{setting.name} must be {what} of at least {least}: got {value!r}."
                )
        if 0 < self.warmup_epochs < 2 * self.cycles:
            raise ValueError(
                f"cycles={self.cycles} need two epochs each to rise: got warmup_epochs="
                f"{self.warmup_epochs}. Warm up for longer."
            )


def fit(
    objective: Objective,
    batches: Callable[[int], Iterable[Batch]],
    validation: Callable[[], Iterable[Batch]] | None,
    plan: Plan,
    *,
    folder: Path | None = None,
    checkpoint_seconds: float = 10.0,
) -> Iterator[dict]:
    """Train the model and guide of an objective in place, one epoch at a time.

    Nothing happens before the first row is requested. After the last one the weights are those of
    the best epoch, in evaluation mode.

    Parameters
    ----------
    objective
        An objective over the pair to train.
    batches
        `batches(seed)` gives the minibatches of one epoch, in an order of that seed.
    validation
        `validation()` gives the minibatches to select the best epoch on; None selects the last.
    plan
        Settings of training.
    folder
        Where checkpoints are saved, and resumed from if there is one; None for neither.
    checkpoint_seconds
        Least time between two checkpoints.

    Yields
    ------
    dict
        A row of history: epoch, beta, train (loss, nats per cell), validation (bound, nats per
        cell), skipped (steps with a non-finite gradient), seconds (of training).

    Raises
    ------
    ValueError
        If model and guide do not fit each other or the minibatch, or the checkpoint does not.
    FloatingPointError
        If a minibatch gives non-finite values again when it is repeated; names where.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import ELBO, Plan, fit
    >>> from pgm_expr.models import VAE
    >>> _ = torch.manual_seed(0)
    >>> x = torch.poisson(torch.full((64, 5), 3.0))
    >>> cells = {"x": x, "library": x.sum(-1, keepdim=True)}
    >>> def batches(seed):
    ...     order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    ...     return ({key: value[rows] for key, value in cells.items()} for rows in order.split(16))
    >>> objective = ELBO(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=64)
    >>> history = list(fit(objective, batches, lambda: [cells], Plan(epochs=3)))
    >>> [row["epoch"] for row in history]
    [0, 1, 2]
    >>> history[-1]["validation"] > history[0]["validation"]
    True
    """
    for site in getattr(objective.model, "supervised", ()):
        objective.weight(site, plan.supervision)
    objective.temper(plan.beta).free_bits(plan.free_bits)
    check_story(objective, next(iter(batches(0))))
    optimizer = _optimizer(objective, plan)
    state, checkpoint = TrainingState(), folder and folder / CHECKPOINT
    if checkpoint and checkpoint.exists():
        state = TrainingState.resume(checkpoint, objective, optimizer)
        yield from state.history
    saved = time.monotonic()
    for epoch in range(len(state.history), plan.epochs):
        if state.since_best >= plan.patience:
            break
        row = _epoch(objective, optimizer, batches, plan, epoch, folder)
        row["validation"] = score(objective, validation()) if validation else math.nan
        state.record(row, objective, first=plan.warmup_epochs)
        if checkpoint and time.monotonic() - saved >= checkpoint_seconds:
            state.save(checkpoint, objective, optimizer)
            saved = time.monotonic()
        yield row
    objective.load_state_dict(state.best or objective.state_dict())
    objective.eval().temper(plan.beta)


def steps(
    objective: Objective, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One optimizer step a minibatch: yields its loss and whether it was skipped.

    Both are tensors on the device, so that nothing here waits for it.
    """
    parameters = list(objective.parameters())
    for batch in batches:
        optimizer.zero_grad()
        loss = objective(**batch)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        skipped = (~(norm + loss.detach()).isfinite()).float()
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # a fused step reads it
        optimizer.step()
        yield loss.detach(), skipped


@torch.no_grad()
def score(objective: Objective, batches: Iterable[Batch]) -> float:
    """The mean bound over the cells of some minibatches, in evaluation mode.

    Parameters
    ----------
    objective
        An objective; its `per_cell` is averaged.
    batches
        Minibatches; every cell counts once.

    Returns
    -------
    float
        Nats per cell, with the same noise at each call.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import ELBO, score
    >>> from pgm_expr.models import VAE
    >>> objective = ELBO(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=8)
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> score(objective, [batch]) == score(objective, [batch])
    True
    """
    training = objective.training
    objective.eval()
    with seeded(VALIDATION_SEED), pyro.validation_enabled(False):
        bounds = torch.cat([objective.per_cell(**batch) for batch in batches])
    objective.train(training)
    return bounds.double().mean().item()


def _epoch(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Batch]],
    plan: Plan,
    epoch: int,
    folder: Path | None,
) -> dict:
    started, seed = time.perf_counter(), plan.seed * 1_000_003 + epoch
    objective.train().temper(plan.beta * _rise(epoch, plan))
    with seeded(seed), pyro.validation_enabled(False):
        taken = [*steps(objective, optimizer, batches(seed))]
    losses = torch.stack([loss for loss, _ in taken])
    skipped = torch.stack([skip for _, skip in taken]).bool()
    if skipped.any():
        number = int(skipped.nonzero()[0])
        batch = next(islice(batches(seed), number, None))
        postmortem(objective, batch, epoch, number, folder)
    return {
        "epoch": epoch,
        "beta": objective.beta.item(),
        "train": losses[~skipped].mean().item(),
        "skipped": int(skipped.sum()),
        "seconds": time.perf_counter() - started,
    }


def _rise(epoch: int, plan: Plan) -> float:
    """The factor of beta in an epoch."""
    if plan.cycles:
        return cyclical(epoch, plan.warmup_epochs, plan.cycles)
    return warmup(epoch, plan.warmup_epochs)


def _optimizer(objective: Objective, plan: Plan) -> torch.optim.AdamW:
    layers = [m for m in objective.modules() if isinstance(m, nn.Linear)]
    decayed = {id(layer.weight) for layer in layers}
    matrices = [p for p in objective.parameters() if id(p) in decayed]
    others = [p for p in objective.parameters() if id(p) not in decayed]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.learning_rate,
        weight_decay=plan.weight_decay,
        fused=True,
    )
