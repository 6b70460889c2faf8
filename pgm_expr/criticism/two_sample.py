"""Can generated cells be distinguished from real ones? Two-sample tests of prior draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from .. import evaluation
from ..report import Table, markup
from ..runs.subset import Subset
from .held_out import HeldOut
from .section import ALPHA, CHANCE, GOOD, Section, Sentence, mark

CLASSIFIERS = 2  # of which the better one is reported
APART = {"x", "library", "label", "target", "index"}  # entries that are no covariates


def two_sample(on: HeldOut) -> dict[str, Any]:
    """Two-sample tests of cells drawn from the prior, beside the floor of real against real."""
    held_out, known = (_covariates(side) for side in (on.held_out, on.known))
    return evaluation.two_sample(
        on.new_cells,
        on.held_out.counts,
        on.known.counts,
        columns=(held_out, held_out, known),
    )._asdict()


def _covariates(side: Subset) -> np.ndarray:
    """Batch and covariates of some cells as numbers, levels as indicators, (n, C)."""
    found = []
    for batch in side.batches():
        columns = [np.empty((len(batch["library"]), 0))]
        for name, value in sorted(batch.items()):
            column = value.cpu().numpy()
            if name in APART:
                continue
            if column.dtype.kind in "iu" and column.ndim == 1:
                levels = np.unique(np.asarray(side.cells.columns[name]))[1:]
                column = column[:, None] == levels
            columns.append(np.nan_to_num(column.reshape(len(column), -1).astype(float)))
        found.append(np.concatenate(columns, 1))
    return np.concatenate(found)


def judge(found: dict[str, Any]) -> Sentence:
    """By the AUC above chance, and above that of real against real."""
    above = (found["auc"] - 0.5) / found["auc_sd"] if "auc_sd" in found else np.inf
    sure = CLASSIFIERS * norm.sf(above) <= ALPHA
    return Sentence(
        mark(found["auc"] - max(found["auc_floor"], 0.5), 0.05, 0.15) if sure else GOOD,
        f"Generated cells: classifier AUC, generated against real: {found['auc']:.3f} (real "
        f"against real: {found['auc_floor']:.3f}).",
        "AUC of the better classifier, of counts and covariates, at most 0.05 above that of real "
        f"against real, or not significantly above 0.5; {CHANCE}; doubtful up to 0.15",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """AUC, distances between the samples, and the distance to the nearest cell of the fit."""
    return [
        f"Cells drawn from the prior: classifier AUC ({found['classifier']}), generated against "
        f"real: {found['auc']:.3f} (real against real: {found['auc_floor']:.3f}); energy distance "
        f"p {found['energy_p']:.3f}, MMD p {found['mmd_p']:.3f}; median distance to the nearest "
        f"cell of the fit {found['nearest']:.2f} (held-out cells: {found['nearest_floor']:.2f})."
    ]


SECTION = Section(
    name="two_sample",
    question="Can generated cells be distinguished from real ones?",
    measure=two_sample,
    judge=judge,
    page=page,
    html=lambda found: markup(*page(found)),
    rank=60,
)
