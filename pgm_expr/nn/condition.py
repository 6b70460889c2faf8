"""Conditions that fit a generator."""

from __future__ import annotations

from torch import Tensor


def check_condition(
    condition: Tensor | None, n: int, conditions: int, *, optional: bool = False
) -> None:
    """Raise where `condition` is not (n, conditions), or not None for a generator of none."""
    if condition is None and (optional or not conditions):
        return
    wanted, got = (n, conditions), None if condition is None else tuple(condition.shape)
    if not conditions:
        raise ValueError(f"this generator has no conditions, got {got}. Leave `condition` out.")
    if got != wanted:
        raise ValueError(f"condition must be {wanted}, got {got}. Give a row for each state.")
