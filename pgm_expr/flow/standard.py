"""What all flows share: standardised states, and conditions that fit them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..nn import learn
from ..nn.learn import Draw


def learn_standardised(
    flow: nn.Module, posterior: Draw, condition: Tensor | None, *, seed: int, **learning: float
) -> Iterator[float]:
    """Train a flow on draws (N, D) in units of the first one, its buffers `mean` and `scale`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = posterior()
    check(condition, len(first), flow.conditions)
    flow.mean.copy_(first.mean(0))
    flow.scale.copy_(first.std(0).clamp_min(1e-6))
    yield from learn(
        flow,
        flow.loss,
        lambda: (posterior() - flow.mean) / flow.scale,
        condition,
        seed=seed,
        **learning,
    )


def check(condition: Tensor | None, n: int, conditions: int, *, optional: bool = False) -> None:
    """Raise where `condition` is not (n, conditions), or not None for a flow of none."""
    if condition is None and (optional or not conditions):
        return
    wanted, got = (n, conditions), None if condition is None else tuple(condition.shape)
    if not conditions:
        raise ValueError(f"this flow has no conditions, got {got}. Leave `condition` out.")
    if got != wanted:
        raise ValueError(f"condition must be {wanted}, got {got}. Give a row for each state.")
