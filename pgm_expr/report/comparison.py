"""A comparison as tables for the terminal and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from .pictures import COLOURS, png

CHOICES = ("story", "objective", "beta", "likelihood", "prior", "posterior")
NOTE = (
    "elpd: held-out IWAE bound at K = {k:,}, nats per cell, mean over seeds, sd their standard "
    "deviation; diff: to the best row of the same measure, paired over cells, with its standard "
    "error dse, both at K = {fine:,}; tie: within two standard errors over cells and seeds, or "
    "below the change from K = {k:,} to {fine:,}."
)


def comparison_page(rows: Sequence[Mapping[str, Any]], sentence: str | None, draws: int) -> Group:
    """Variants ranked as in `arviz.compare`, one table per measure, then refused ones."""
    ranked = [row for row in rows if not row["refused"]]
    measures = list(dict.fromkeys(row["measure"] for row in ranked))
    parts: list[Any] = [
        _table(measure, [row for row in ranked if row["measure"] == measure])
        for measure in measures
    ]
    if len(measures) > 1:
        parts.append("Tables of different measures are different quantities and not compared.")
    parts += _refused([row for row in rows if row["refused"]])
    if ranked:
        parts.append(NOTE.format(k=draws, fine=4 * draws))
    return Group(*parts, *([sentence] if sentence else []))


def _table(measure: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = _varying(rows)
    title = f"log p of {measure}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", *shown):
        table.add_column(name, no_wrap=True)
    for name in ("elpd", "sd", "diff", "dse", "", "KL", "probe", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, row in enumerate(rows):
        table.add_row(
            str(rank),
            *(f"{row[key]:g}" if key == "beta" else row[key] for key in shown),
            f"{row['heldout_iwae']:.2f}",
            f"{row['heldout_iwae_sd']:.2f}",
            f"{row['diff']:.2f}",
            f"{row['dse']:.2f}",
            "tie" if row["tie"] else "",
            f"{row['kl']:.1f}" + (" collapsed" if row["collapsed"] else ""),
            "" if row["probe_macro_f1"] is None else f"{row['probe_macro_f1']:.3f}",
            f"{row['seconds']:.0f}",
        )
    return table


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
    """PNG of differences to the best with two standard errors, one panel per measure."""
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
            axes.errorbar(row["diff"], y, xerr=2 * row["dse"], fmt="o", color=colour, ms=4)
        axes.axvline(0, color="0.7", linewidth=1)
        axes.set_yticks(heights, [label(row, shown) for row in same], fontsize=8)
        axes.set_ylim(max(len(same), 1) - 0.5, -0.5)
        axes.set(
            title=f"log p of {measure}", xlabel="difference to the best, nats per cell ± 2 se"
        )
    return png(figure)
