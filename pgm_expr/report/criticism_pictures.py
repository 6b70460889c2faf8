"""Pictures of a criticism, of one run or of several side by side, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .pictures import png

PANELS = {"mean": "mean", "variance": "variance", "zero": "share of zeros"}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.75"  # told apart by the colour-blind


def ppc_picture(checks: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Genes of drawn against real counts: mean, variance, share of zeros; a row a run."""
    figure = Figure(figsize=(10.5, 3.4 * len(checks)), layout="constrained")
    axes = figure.subplots(len(checks), 3, squeeze=False)
    for row, (name, told) in zip(axes, checks.items(), strict=True):
        for axis, (key, title) in zip(row, PANELS.items(), strict=True):
            _against(axis, *(np.array(told["genes"][f"{key}_{s}"]) for s in ("real", "drawn")))
            axis.set(title=f"{name}: {title}" if len(checks) > 1 else title)
            if key != "zero":
                axis.set(xscale="log", yscale="log")
    return png(figure)


def _against(axis: Axes, real: np.ndarray, drawn: np.ndarray) -> None:
    axis.scatter(real, drawn, s=5, color=BLUE, alpha=0.5, linewidths=0)
    ends = [min(real.min(), drawn.min()), max(real.max(), drawn.max())]
    axis.plot(ends, ends, color=ORANGE, linewidth=1)
    axis.set(xlabel="held-out cells, by gene", ylabel="drawn")


def calibration_picture(rows: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Histograms of randomised PITs, 1 where calibrated."""
    figure = Figure(figsize=(5 * len(rows), 3.2), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, (name, told) in zip(axes, rows.items(), strict=True):
        bars = told["histogram"]
        axis.bar((np.arange(len(bars)) + 0.5) / len(bars), bars, 0.9 / len(bars), color=BLUE)
        axis.axhline(1, color=ORANGE, linewidth=1)
        axis.set(xlabel="randomised PIT", ylabel="density", title=name, ylim=(0, None))
    return png(figure)


def _two(height: float, stacked: bool) -> tuple[Figure, Axes, Axes]:
    """Two panels side by side or, as a run beside another has half the page, one on the other."""
    size, shape = ((5.25, 1.8 * height), (2, 1)) if stacked else ((10.5, height), (1, 2))
    figure = Figure(figsize=size, layout="constrained")
    return figure, *figure.subplots(*shape)


def sbc_picture(told: Mapping[str, Any], stacked: bool = False) -> bytes:
    """Coverage of central intervals, and how ranks differ from even ones, with joint bands."""
    figure, cover, ecdf = _two(3.6, stacked)
    for each in told["coverage"].values():
        cover.plot(told["levels"], each, color=BLUE, alpha=0.6, linewidth=1)
    cover.plot([0, 1], [0, 1], color=ORANGE, linewidth=1)
    cover.set(xlabel="nominal", ylabel="share of true states inside", title="Central intervals")
    bands = told["ecdf"]
    ecdf.fill_between(bands["x"], bands["low"], bands["high"], color=GREY, linewidth=0)
    for each in bands["difference"].values():
        ecdf.plot(bands["x"], each, color=BLUE, alpha=0.6, linewidth=1)
    ecdf.set(xlabel="rank of the true state", ylabel="ECDF minus even", title="Ranks")
    return png(figure)


def health_picture(told: Mapping[str, Any], stacked: bool = False) -> bytes:
    """Pareto k over cells, in order, and the KL of each latent dimension."""
    figure, tail, kl = _two(3.2, stacked)
    k = np.sort(told["by_cell"]["pareto_k"])
    tail.plot(np.arange(1, len(k) + 1) / len(k), k, color=BLUE)
    tail.axhline(0.7, color=ORANGE, linewidth=1, label=".7")
    tail.legend(frameon=False)
    tail.set(xlabel="share of cells", ylabel="Pareto k", title="Importance weights")
    kl.bar(range(len(told["kl"])), sorted(told["kl"], reverse=True), color=BLUE)
    kl.set(xlabel="latent dimension", ylabel="KL, nats per cell", title="What states carry")
    return png(figure)


def sections_with(runs: Sequence[Mapping[str, Any]], section: str) -> dict[str, Mapping[str, Any]]:
    """That section of each run that has it, by the run's name."""
    found = {run["name"]: run.get("criticism", {}).get(section) for run in runs}
    return {name: told for name, told in found.items() if told}
