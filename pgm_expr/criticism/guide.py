"""Is the guide right: bounds, importance weights, calibration on cells of the story itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from .. import evaluation, zoo
from ..evaluation.guide import health as guide_health
from ..evaluation.guide import nuts, refine, sbc, surgery
from .held_out import HeldOut, mean

FEW = 100  # cells whose posteriors are refined one by one
NUTS = 4  # cells whose posteriors are sampled
NUTS_DRAWS = 100  # of each of four chains, and as many to warm up
WORST = 10


def heldout(on: HeldOut) -> dict[str, Any]:
    """Log p(x | library) three ways: by the guide, by posteriors of cells' own, by weights."""
    weights, some = on.weights, on.held_out.every(FEW)
    found = {
        "k": on.draws // 4,
        "measure": zoo.measure(on.run.model),
        "elbo": mean(weights.elbo),
        "elbo_se": evaluation.standard_error(weights.elbo),
        "iwae": mean(weights.iwae_quarter),
        "iwae_4k": mean(weights.iwae),
        "iwae_se": evaluation.standard_error(weights.iwae),
        "refined_elbo": None,
    }
    try:
        refined = evaluation.amortisation_gap(*on.pair, some.batches(), steps=200)
    except ValueError:  # a discrete latent
        return found
    return found | {
        "refined_elbo": mean(refined.refined),
        "refined_cells": len(some),
        "refined_gain": mean(refined.gap),
        "refined_gain_se": evaluation.standard_error(refined.gap),
    }


def health(on: HeldOut) -> dict[str, Any]:
    """What importance weights say of each cell's posterior, and where the KL goes."""
    weights = on.weights
    use, where = on.run.use(on.held_out.batches()), weights.worst(WORST)
    parts = surgery.surgery(*on.pair, on.held_out.batches())
    labels, library = on.labels, on.held_out.library
    rows = [
        {
            "cell": str(on.held_out.names[i]),
            "k": float(weights.pareto_k[i]),
            "gap": float(weights.gap[i]),
            "log_p": float(weights.iwae[i]),
            "library": float(library[i]),
            "label": None if labels is None else str(labels[i]),
        }
        for i in where.tolist()
    ]
    return {
        "draws": on.draws,
        "pareto_k": guide_health.quantiles(weights.pareto_k),
        "share_above_0.7": float((weights.pareto_k > 0.7).float().mean()),
        "ess": guide_health.quantiles(weights.efficiency),
        "iwae_gap": mean(weights.gap),
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
    try:
        some = on.held_out.every(FEW)
        refined = guide_health.refined_weights(*on.pair, some.batches(), draws=on.draws)
    except ValueError:
        return None
    return guide_health.quantiles(refined.pareto_k)


def calibrated(on: HeldOut) -> dict[str, Any]:
    """Simulation-based calibration of the guide, on cells like the held-out ones."""
    found = sbc.sbc(*on.pair, on.held_out.batches())
    curves = {name: curve.tolist() for name, curve in found.ecdf().items()}
    bands = {key: curves.pop(key) for key in ("x", "low", "high")}
    return {
        "error": found.error,
        "pooled_error": found.pooled_error,
        "alpha": found.alpha,
        "flagged": found.flagged,
        "levels": sbc.LEVELS.tolist(),
        "coverage": {name: each.tolist() for name, each in found.coverage.items()},
        "bias": found.bias,
        "ecdf": bands | {"difference": curves},
    }


def referred(on: HeldOut) -> dict[str, Any]:
    """The guide, and posteriors of cells' own, beside NUTS on a few cells."""
    some = on.held_out.every(NUTS)
    batch = next(iter(some.batches()))
    found = nuts.reference(*on.pair, batch, draws=NUTS_DRAWS, warmup=NUTS_DRAWS)
    with refine.refined_guide(*on.pair, batch, shared=found.shared) as own:
        rows = {"guide": _agreement(found, on.run.guide, batch)}
        rows["refined"] = _agreement(found, own, batch)
    return {
        "cells": [str(name) for name in some.names[: len(batch["library"])]],
        "draws": int(np.prod(found.draws.shape[:2])),
        "rhat": float(found.rhat.max()),
        "ess": float(found.ess.min()),
        **rows,
    }


def _agreement(found: nuts.Reference, guide: nn.Module, batch: dict) -> dict[str, float]:
    told = nuts.agreement(found, guide, batch)
    return {
        "shift": float(np.sqrt(np.mean(told.shift**2))),
        "width": float(np.exp(np.mean(np.log(told.width)))),
        **{f"covers_{level:g}": share for level, share in told.coverage.items()},
        "mixed": told.mixed,
    }
