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
from pathlib import Path

import pyro
import torch
from torch import Tensor, nn

from .noise import seeded
from .objective import Objective
from .postmortem import postmortem
from .progress import CHECKPOINT, Progress
from .schedule import cyclical, warmup
from .tracing import Batch

NOISE_OF_VALIDATION = 1  # the same draws at every epoch: differences between epochs are paired
LEAST = {"batch_size": 1, "patience": 1, "learning_rate": 1e-12}  # 0 elsewhere


@dataclass(frozen=True)
class Plan:
    """How to train; every field is recorded with the run.

    `weight_decay` is AdamW's, on weights of linear layers only (Loshchilov and Hutter, ICLR 2019,
    https://arxiv.org/abs/1711.05101). Training stops after `patience` epochs without a better
    validation bound, counted from the end of the warm-up, and the best epoch's weights are kept.
    Over the `warmup_epochs` beta rises linearly, or `cycles` times where that is not 0; with
    `warmup_epochs=0` it is constant.
    `beta` and `free_bits` are those of `Objective.temper` and `Objective.free_bits`; `supervision`
    is the weight of a story's head, the sites that its model names in `supervised`.
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
    """Train an objective's model and guide in place; yields one row of history an epoch.

    `batches(seed)` gives the minibatches of one epoch, `validation()` those to select on; without
    it every epoch counts as the best so far. The warm-up raises beta to the plan's. With a
    `folder`, progress is saved there every `checkpoint_seconds` and picked up from there.

    A row: epoch, beta, train (objective, nats per cell), validation (bound, nats per cell),
    skipped (steps with a non-finite gradient), seconds of training. Raises FloatingPointError
    with a post-mortem where a batch keeps giving non-finite numbers.
    """
    for site in getattr(objective.model, "supervised", ()):
        objective.weight(site, plan.supervision)
    objective.temper(plan.beta).free_bits(plan.free_bits).check(next(iter(batches(0))))
    optimizer = _optimizer(objective, plan)
    progress, checkpoint = Progress(), folder and folder / CHECKPOINT
    if checkpoint and checkpoint.exists():
        progress = Progress.resume(checkpoint, objective, optimizer)
        yield from progress.history
    saved = time.monotonic()
    for epoch in range(len(progress.history), plan.epochs):
        if progress.since_best >= plan.patience:
            break
        row = _epoch(objective, optimizer, batches, plan, epoch, folder)
        row["validation"] = score(objective, validation()) if validation else math.nan
        progress.record(row, objective, first=plan.warmup_epochs)
        if checkpoint and time.monotonic() - saved >= checkpoint_seconds:
            progress.save(checkpoint, objective, optimizer)
            saved = time.monotonic()
        yield row
    objective.load_state_dict(progress.best or objective.state_dict())
    objective.eval().temper(plan.beta)


def steps(
    objective: Objective, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One optimizer step a minibatch; yields the loss and whether the step was skipped, as
    tensors on the device: nothing here waits for it."""
    parameters = list(objective.parameters())
    for batch in batches:
        optimizer.zero_grad()
        loss = objective(**batch)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        optimizer.found_inf = (~(norm + loss.detach()).isfinite()).float()  # a fused step skips
        optimizer.step()
        yield loss.detach(), optimizer.found_inf


@torch.no_grad()
def score(objective: Objective, batches: Iterable[Batch]) -> float:
    """The mean bound over the cells of some batches, nats per cell, in evaluation mode."""
    training = objective.training
    objective.eval()
    with seeded(NOISE_OF_VALIDATION), pyro.validation_enabled(False):
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
        losses, skipped = zip(*steps(objective, optimizer, batches(seed)), strict=True)
    losses, skipped = torch.stack(losses), torch.stack(skipped).bool()
    if skipped.any():
        number = int(skipped.nonzero()[0])
        postmortem(objective, _nth(batches(seed), number), epoch, number, folder)
    return {
        "epoch": epoch,
        "beta": objective.beta.item(),
        "train": losses[~skipped].mean().item(),
        "skipped": int(skipped.sum()),
        "seconds": time.perf_counter() - started,
    }


def _rise(epoch: int, plan: Plan) -> float:
    """The share of beta in force in an epoch."""
    if plan.cycles:
        return cyclical(epoch, plan.warmup_epochs, plan.cycles)
    return warmup(epoch, plan.warmup_epochs)


def _nth(batches: Iterable[Batch], number: int) -> Batch:
    return next(batch for i, batch in enumerate(batches) if i == number)


def _optimizer(objective: Objective, plan: Plan) -> torch.optim.AdamW:
    layers = [m for m in objective.modules() if isinstance(m, nn.Linear)]
    decayed = {id(layer.weight) for layer in layers}
    matrices = [p for p in objective.parameters() if id(p) in decayed]
    others = [p for p in objective.parameters() if id(p) not in decayed]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.learning_rate,
        weight_decay=plan.weight_decay,
        fused=True,
    )
