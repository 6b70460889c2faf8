"""Scores beside chance, as permutation tests return them, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

NO_COLUMN = (
    "requires labels, batches or covariates: got none. Pass labels_key or batch_key to fit."
)
COLUMNS = ("score", "chance", "p")
Test = Callable[..., tuple[float, float, float, int]]


def tried(test: Test, *arguments: Any, **named: Any) -> dict[str, Any]:
    """Score, chance and p of a permutation test, else `why` there are none."""
    try:
        score, chance, p, _ = test(*arguments, **named)
    except ValueError as error:
        return {"why": str(error)}
    return {"score": score, "chance": chance, "p": p}


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Score, chance and p as text; dashes where they were not measured."""
    return tuple(f"{row[name]:.3f}" if name in row else "-" for name in COLUMNS)


def reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why there are dashes: one line per column."""
    why = {row["what"]: row["why"] for row in rows if "why" in row}
    return [f"Not measured: {what}: {reason}" for what, reason in why.items()]
