"""A comparison as tables for the terminal and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from .pictures import COLOURS, png

CHOICES = ("story", "objective", "beta", "likelihood", "prior", "posterior")
NOTE = (
    "Order: bound of validation cells. elpd: IWAE bound of test cells at K = {k:,}, nats per "
    "cell, mean over fits. diff: to row 0 of the same measure, paired over test cells, at "
    "K = {fine:,}. {error}"
)
TOTAL = (
    "se: its standard error over cells, seeds and {splits} splits (Nadeau and Bengio 2003); "
    "cells, seeds, splits: the part of each. tie: the 95% interval (Student's t) holds 0, or diff "
    "is below its change from K = {k:,} to {fine:,}."
)
TOGETHER = " One seed per split: seeds are part of splits; pass seeds=2 to separate them."
ONE_SPLIT = (
    "cells, seeds: its standard error over cells and seeds of one split only. The spread over "
    "splits can be several times as large, so nothing is declared better; pass splits=5."
)


def comparison_page(rows: Sequence[Mapping[str, Any]], sentence: str | None, draws: int) -> Group:
    """Variants ranked as in `arviz.compare`, one table per measure, then refused ones."""
    ranked = [row for row in rows if not row["refused"]]
    measures = list(dict.fromkeys(row["measure"] for row in ranked))
    parts: list[Any] = [
        _table(measure, [row for row in ranked if row["measure"] == measure])
        for measure in measures
    ]
    for measure in measures:
        sentence_of = best([row for row in ranked if row["measure"] == measure])
        parts += [sentence_of] * bool(sentence_of)
    if len(measures) > 1:
        parts.append("Tables of different measures are different quantities and not compared.")
    parts += _refused([row for row in rows if row["refused"]])
    if ranked:
        parts.append(_note(ranked[0], draws))
    return Group(*parts, *([sentence] if sentence else []))


def _note(row: Mapping[str, Any], draws: int) -> str:
    """What the columns are, for so many splits and seeds."""
    ks = {"k": draws, "fine": 4 * draws}
    error = ONE_SPLIT if row["splits"] == 1 else TOTAL.format(splits=row["splits"], **ks)
    if row["splits"] > 1 and row["seeds"] == 1:
        error += TOGETHER
    return NOTE.format(error=error, **ks)


def best(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the first of the ranked rows of one measure is the best, in one sentence."""
    first, *others = rows
    shown = _varying(rows)
    name = label(first, shown)
    if not others:
        return ""
    if first["splits"] == 1:
        return f"Best on validation cells: {name}. One split does not show that it is better."
    rivals = [label(row, shown) for row in others if row["tie"] or row["diff"] > 0]
    if rivals:
        return f"Best on validation cells: {name}. Not better on test cells: {'; '.join(rivals)}."
    return f"Best: {name}, chosen on validation cells, better on test cells than every other row."


def _table(measure: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = _varying(rows)
    title = f"log p of {measure}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", *shown):
        table.add_column(name, no_wrap=True)
    for name in ("elpd", "diff", "se", "cells", "seeds", "splits", "", "KL", "probe", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, row in enumerate(rows):
        table.add_row(
            str(rank),
            *(f"{row[key]:g}" if key == "beta" else row[key] for key in shown),
            f"{row['heldout_iwae']:.2f}",
            f"{row['diff']:.2f}",
            *(_decimals(row[key]) for key in ("se", "se_cells", "se_seeds", "se_splits")),
            "tie" if row["tie"] else "",
            f"{row['kl']:.1f}" + (" collapsed" if row["collapsed"] else ""),
            "" if row["probe_macro_f1"] is None else f"{row['probe_macro_f1']:.3f}",
            f"{row['seconds']:.0f}",
        )
    return table


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _refused(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per reason, with the rows concerned."""
    shown = _varying(rows)
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(row["refused"], []).append(label(row, shown))
    return [f"refused: {why} ({'; '.join(which)})" for why, which in reasons.items()]


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Choices in which rows differ; the story where none does."""
    return [key for key in CHOICES if len({row[key] for row in rows}) > 1] or ["story"]


def label(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The name of a row."""
    return " ".join(f"beta {row[k]:g}" if k == "beta" else str(row[k]) for k in keys)


def comparison_picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of differences to the first row, one panel per measure.

    Bars are two total standard errors; for one split dotted, over its cells and seeds alone.
    """
    ranked = [row for row in rows if not row["refused"]]
    measures = list(dict.fromkeys(row["measure"] for row in ranked)) or ["nothing was fitted"]
    kinds = list(dict.fromkeys(row["likelihood"] for row in ranked))
    shown = _varying(ranked)
    sizes = [max(1, sum(row["measure"] == m for row in ranked)) for m in measures]
    height = 1.2 * len(sizes) + 0.24 * sum(sizes)
    figure = Figure(figsize=(8, height), layout="constrained")
    panels = figure.subplots(len(sizes), squeeze=False, height_ratios=sizes)[:, 0]
    for axes, measure in zip(panels, measures, strict=True):
        same = [row for row in ranked if row["measure"] == measure]
        heights = np.arange(len(same))
        for y, row in zip(heights, same, strict=True):
            colour = COLOURS[kinds.index(row["likelihood"]) % len(COLOURS)]
            bars = axes.errorbar(row["diff"], y, xerr=2 * _error(row), fmt="o", color=colour, ms=4)
            bars[2][0].set_linestyle("-" if row["splits"] > 1 else ":")
        axes.axvline(0, color="0.7", linewidth=1)
        axes.set_yticks(heights, [label(row, shown) for row in same], fontsize=8)
        axes.set_ylim(max(len(same), 1) - 0.5, -0.5)
        axes.set(title=f"log p of {measure}", xlabel=_axis(same))
    return png(figure)


def _error(row: Mapping[str, Any]) -> float:
    return math.hypot(*(row[f"se_{of}"] or 0.0 for of in ("cells", "seeds", "splits")))


def _axis(rows: Sequence[Mapping[str, Any]]) -> str:
    one = bool(rows) and rows[0]["splits"] == 1
    over = "se over cells and seeds of one split" if one else "se"
    return f"difference to the first row, nats per cell ± 2 {over}"
