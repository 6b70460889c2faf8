"""Can generated cells be distinguished from real ones? Two-sample tests of prior draws."""

from __future__ import annotations

from typing import Any

import torch

from .. import evaluation
from ..report import Table, markup
from .held_out import HeldOut
from .section import Section, Sentence, mark


def two_sample(on: HeldOut) -> dict[str, Any]:
    """Two-sample tests of cells drawn from the prior, beside the floor of real against real."""
    x = torch.cat([*on.drawn("prior")]).cpu().numpy()
    return evaluation.two_sample(x, on.held_out.counts, on.known.counts)._asdict()


def judge(found: dict[str, Any]) -> Sentence:
    """By the AUC above that of real against real."""
    return Sentence(
        mark(found["auc"] - found["auc_floor"], 0.05, 0.15),
        f"Generated cells: classifier AUC, generated against real: {found['auc']:.3f} (real "
        f"against real: {found['auc_floor']:.3f}).",
        "AUC of the better classifier at most 0.05 above the floor, doubtful up to 0.15",
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
