"""How likely are held-out counts? Three bounds of their log likelihood."""

from __future__ import annotations

from typing import Any

from .. import evaluation, zoo
from ..report import Table, markup
from .held_out import HeldOut, mean
from .section import Section

REFINED = 100  # cells whose posteriors are refined one by one


def heldout(on: HeldOut) -> dict[str, Any]:
    """log p(x | library), nats per cell: ELBO of guide and refined posteriors, and IWAE."""
    weights, some = on.weights, on.held_out.every(REFINED)
    found = {
        "k": on.draws // 4,
        "measure": zoo.measure(on.run.model),
        "elbo": mean(weights.elbo),
        "elbo_se": evaluation.standard_error(weights.elbo),
        "elbo_mcse": weights.elbo_mcse,
        "iwae": mean(weights.iwae_quarter),
        "iwae_4k": mean(weights.iwae),
        "iwae_se": evaluation.standard_error(weights.iwae),
        "iwae_4k_mcse": weights.iwae_mcse,
        "refined_elbo": None,
    }
    try:
        refined = evaluation.amortisation_gap(*on.pair, some.batches(), steps=200)
    except ValueError:  # no continuous latent to refine
        return found
    return found | {
        "refined_elbo": mean(refined.refined),
        "refined_cells": len(some),
        "refined_gain": mean(refined.gap),
        "refined_gain_se": evaluation.standard_error(refined.gap),
    }


def page(found: dict[str, Any]) -> list[str | Table]:
    """The bounds, and what refinement gains."""
    bounds = (
        f"ELBO {found['elbo']:.2f} nats per cell; IWAE {found['iwae']:.2f} at K = {found['k']} "
        f"and {found['iwae_4k']:.2f} at K = {4 * found['k']}, standard error "
        f"{found['iwae_se']:.2f} over cells{_monte_carlo(found)}."
    )
    if found["refined_elbo"] is None:
        return [bounds]
    return [
        f"{bounds} Per-cell refined posteriors raise the ELBO by {found['refined_gain']:.2f} ± "
        f"{found['refined_gain_se']:.2f} nats per cell ({found['refined_cells']} cells)."
    ]


def _monte_carlo(found: dict[str, Any]) -> str:
    if "elbo_mcse" not in found:  # measured by a version before 0.7
        return ""
    elbo, iwae = found["elbo_mcse"], found["iwae_4k_mcse"]
    return f"; Monte Carlo standard error of the ELBO {elbo:.2f}, of the last IWAE {iwae:.2f}"


SECTION = Section(
    name="heldout",
    question="How likely are held-out counts?",
    measure=heldout,
    judge="a likelihood is compared with those of other models: see `evaluate` and `compare`",
    page=page,
    html=lambda found: markup(*page(found)),
)
