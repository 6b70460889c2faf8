"""Does the guide approximate the posterior? Importance weights, latent use and KL."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from .. import evaluation
from ..evaluation.guide.health import quantiles, refined_weights
from ..evaluation.guide.surgery import surgery
from ..report import BLUE, ORANGE, Table, image, markup, panel
from .held_out import HeldOut, mean
from .section import BAD, CHANCE, Section, Sentence, mark

REFINED = 100  # cells whose posteriors are refined one by one
SURE = 2.0  # standard errors
WORST, SCREEN = 10, 5  # worst cells listed: in all, on the terminal


def health(on: HeldOut) -> dict[str, Any]:
    """Pareto k, effective draws and gap of each cell; active units and the parts of the KL."""
    weights, use = on.weights, on.use(on.held_out)
    parts = surgery(*on.pair, on.held_out.batches())
    library = on.held_out.library
    rows = [
        {
            "cell": str(on.held_out.names[i]),
            "k": float(weights.pareto_k[i]),
            "gap": float(weights.gap[i]),
            "log_p": float(weights.iwae[i]),
            "library": float(library[i]),
            "label": on.label_of(i),
        }
        for i in weights.worst(WORST).tolist()
    ]
    return {
        "draws": on.draws,
        "pareto_k": quantiles(weights.pareto_k),
        "share_above_0.7": float((weights.pareto_k > 0.7).float().mean()),
        "ess": quantiles(weights.efficiency),
        "iwae_gap": mean(weights.gap),
        "iwae_gap_se": evaluation.standard_error(weights.gap),
        "collapse": on.collapse,
        "k_refined": _refined_k(on),
        "kl": use.kl.tolist(),
        "active_units": use.active_units,
        "dimensions": use.loc.shape[1],
        "mutual_information": sum(part.information for part in parts.values()),
        "aggregate_gap": sum(part.aggregate for part in parts.values()),
        "worst_cells": rows,
        "by_cell": {
            "pareto_k": weights.pareto_k.tolist(),
            "ess": weights.efficiency.tolist(),
            "iwae": weights.iwae.tolist(),
            "gap": weights.gap.tolist(),
        },
    }


def _refined_k(on: HeldOut) -> dict[str, float] | None:
    """Quantiles of Pareto k with per-cell refined posteriors, None for a discrete latent."""
    try:
        some = on.held_out.every(REFINED)
        refined = refined_weights(*on.pair, some.batches(), draws=on.draws)
    except ValueError:
        return None
    return quantiles(refined.pareto_k)


def judge(found: dict[str, Any]) -> Sentence:
    """By the gap of the bound, and whether any dimension is in use."""
    gap, used = found["iwae_gap"], found["active_units"]
    sure = gap - SURE * found.get("iwae_gap_se", 0.0)
    return Sentence(
        BAD if not used or found.get("collapse") else mark(sure, 2.0, 10.0),
        f"Guide: gap between IWAE and ELBO: {gap:.2f} nats per cell, {used} of "
        f"{found['dimensions']} dimensions in use, median Pareto k "
        f"{found['pareto_k']['q50']:.2f}.",
        "no posterior collapse, and a gap of at most 2 nats per cell, or not significantly more; "
        f"{CHANCE}; doubtful up to 10 nats; in many dimensions a Pareto k above 0.7 is common and "
        "not a problem by itself",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """Weights, latent use, and the cells of the largest gap."""
    weights = (
        f"Importance weights: Pareto k {_spread(found['pareto_k'])}, effective draws "
        f"{found['ess']['q50']:.1%} in the median; gap between IWAE and ELBO: "
        f"{found['iwae_gap']:.2f} nats per cell."
    )
    if found["k_refined"]:
        weights += f" With per-cell refined posteriors: Pareto k {_spread(found['k_refined'])}."
    latent = (
        f"Latent state: {found['active_units']} of {found['dimensions']} dimensions in use; KL "
        f"{sum(found['kl']):.2f} nats per cell, of which mutual information of cells and states "
        f"{found['mutual_information']:.2f}, KL from the aggregate posterior to the prior "
        f"{found['aggregate_gap']:.2f}."
    )
    rows = [
        (
            cell["cell"],
            cell["label"] or "",
            f"{cell['library']:,.0f}",
            f"{cell['gap']:.2f}",
            f"{cell['k']:.2f}",
        )
        for cell in found["worst_cells"]
    ]
    columns = ("cell", "label", "library", "gap, nats", "Pareto k")
    title = "Cells with the largest gap between IWAE and ELBO"
    return [weights, latent, Table(title, columns, rows, words=2, screen=SCREEN)]


def _spread(quantiles: dict[str, float]) -> str:
    return f"{quantiles['q50']:.2f} ({quantiles['q05']:.2f} to {quantiles['q95']:.2f})"


def html(found: dict[str, Any]) -> Markup:
    """The page, after pictures of Pareto k and KL."""
    pictures = (
        image(_pareto_k(found["by_cell"]["pareto_k"]), "Pareto k of each cell"),
        image(_kl(found["kl"]), "KL of each latent dimension"),
    )
    return markup(*pictures, *page(found))


def _pareto_k(k: list[float]) -> Figure:
    figure, axes = panel()
    axes.plot(np.arange(1, len(k) + 1) / len(k), np.sort(k), color=BLUE)
    axes.axhline(0.7, color=ORANGE, linewidth=1, label="0.7")
    axes.legend(frameon=False)
    axes.set(xlabel="share of cells", ylabel="Pareto k", title="Importance weights")
    return figure


def _kl(kl: list[float]) -> Figure:
    figure, axes = panel()
    axes.bar(range(len(kl)), sorted(kl, reverse=True), color=BLUE)
    axes.set(xlabel="latent dimension", ylabel="KL, nats per cell", title="KL to the prior")
    return figure


SECTION = Section(
    name="health",
    question="Does the guide approximate the posterior of each cell?",
    measure=health,
    judge=judge,
    page=page,
    html=html,
    rank=30,
    by_cell=("pareto_k", "ess", "iwae", "gap"),
    summary=("pareto_k", "ess", "kl", "active_units", "mutual_information", "aggregate_gap"),
)
