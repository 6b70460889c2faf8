"""Does the guide recover the states of simulated cells? Simulation-based calibration."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from .. import evaluation
from ..evaluation.guide.sbc import LEVELS
from ..report import BLUE, GREY, ORANGE, Table, image, markup, panel
from .held_out import HeldOut
from .section import ALPHA, CHANCE, GOOD, Section, Sentence, mark

WORST = 5.0  # times the limits of coverage, for the ranks of a single quantity


def sbc(on: HeldOut) -> dict[str, Any]:
    """Ranks of true states among the guide's draws, on cells simulated like the held-out ones."""
    on.run.require_states("this section")
    found = evaluation.sbc(*on.pair, on.held_out.batches(), alpha=ALPHA)
    curves = {name: curve.tolist() for name, curve in found.ecdf().items()}
    bands = {key: curves.pop(key) for key in ("x", "low", "high")}
    return {
        "error": found.error,
        "pooled_error": found.pooled_error,
        "alpha": found.alpha,
        "flagged": found.flagged,
        "deviation": found.deviation,
        "levels": LEVELS.tolist(),
        "coverage": {name: each.tolist() for name, each in found.coverage.items()},
        "bias": found.bias,
        "ecdf": bands | {"difference": curves},
    }


def judge(found: dict[str, Any]) -> Sentence:
    """By the quantities whose ranks are not uniform, and by the error of coverage."""
    error, flagged = found["pooled_error"], found["flagged"]
    middle = [each[4] for each in found["coverage"].values()]
    narrow = sum(middle) / len(middle) < found["levels"][4]
    how = f"; posteriors are too {'narrow' if narrow else 'wide'} or biased" if flagged else ""
    worst = max((found.get("deviation", {}).get(name, 0.0) for name in flagged), default=0.0)
    return Sentence(
        mark(max(error, worst / WORST), 0.03, 0.06) if flagged else GOOD,
        "Posteriors of states: coverage of central intervals deviates from nominal by at most "
        f"{error:.3f}, all dimensions pooled{how}.",
        "coverage of all dimensions pooled deviates by at most 0.03, and no ranks by 0.15 "
        f"beyond chance, or no ranks significantly; {CHANCE}; doubtful up to twice that",
    )


def page(found: dict[str, Any]) -> list[str | Table]:
    """Errors of coverage, and the quantities that are flagged."""
    flagged = ", ".join(found["flagged"]) or "none"
    return [
        f"Coverage of central intervals: max |coverage - nominal| {found['error']:.3f} in one "
        f"dimension, {found['pooled_error']:.3f} with all dimensions pooled. Ranks flagged as not "
        f"uniform: {flagged} (a correct guide is flagged {found['alpha']:.0%} of the time)."
    ]


def html(found: dict[str, Any]) -> Markup:
    """The page, after pictures of coverage and ranks."""
    pictures = image(_coverage(found), "Coverage"), image(_ranks(found["ecdf"]), "Ranks")
    return markup(*pictures, *page(found))


def _coverage(found: dict[str, Any]) -> Figure:
    figure, axes = panel()
    for each in found["coverage"].values():
        axes.plot(found["levels"], each, color=BLUE, alpha=0.6, linewidth=1)
    axes.plot([0, 1], [0, 1], color=ORANGE, linewidth=1)
    axes.set(xlabel="nominal", ylabel="share of true states covered", title="Central intervals")
    return figure


def _ranks(ecdf: dict[str, Any]) -> Figure:
    figure, axes = panel()
    axes.fill_between(ecdf["x"], ecdf["low"], ecdf["high"], color=GREY, linewidth=0)
    for each in ecdf["difference"].values():
        axes.plot(ecdf["x"], each, color=BLUE, alpha=0.6, linewidth=1)
    axes.set(xlabel="rank of the true state", ylabel="ECDF minus uniform", title="Ranks")
    return figure


SECTION = Section(
    name="sbc",
    question="Does the guide recover the states of simulated cells?",
    measure=sbc,
    judge=judge,
    page=page,
    html=html,
    rank=50,
)
