"""Do drawn counts look like real counts? Posterior and prior predictive checks, gene by gene."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from ..evaluation.counts.ppc import PredictiveCheck, exchange_check, predictive_check
from ..report import BLUE, ORANGE, Table, image, markup, panel
from .held_out import HeldOut
from .section import ALPHA, CHANCE, Section, Sentence, mark

PANELS = {"mean": "mean", "variance": "variance", "zero": "zero rate"}  # key: statistic
LIMITS = {  # of the error above that of a true story
    "mean": 0.05,
    "variance": 0.15,
    "zero rate": 0.01,
    "dispersion": 0.15,
    "tail": 0.1,
    "bimodality": 0.02,
    "correlation": 0.1,
}


def ppc(on: HeldOut) -> dict[str, Any]:
    """Counts drawn from the posteriors, and from the prior, against real ones."""
    posterior, prior = (
        predictive_check(partial(on.drawn, source), on.held_out.counts, on.known.counts)
        for source in ("posterior", "prior")
    )
    r, ceiling = posterior.correlation
    tested = exchange_check(on.version_counts)
    return {
        "rows": [a | b for a, b in zip(posterior.rows(), tested, strict=True)],
        "genes": _genes(posterior),
        "correlation": {"r": r, "ceiling": ceiling},
        "prior_rows": prior.rows(),
    }


def _genes(check: PredictiveCheck) -> dict[str, list[float]]:
    """The points of the panels: real, and the mean over replicates."""
    real = {f"{k}_real": check.real[name].tolist() for k, name in PANELS.items()}
    return real | {f"{k}_drawn": check.drawn[name].mean(0).tolist() for k, name in PANELS.items()}


def judge(found: dict[str, Any]) -> Sentence:
    """By the errors that exceed those of a true story."""
    far = {row["check"]: over for row in found["rows"] if (over := _over(row)) > 1}
    what = f"wrong in {', '.join(far)}" if far else "no check is off"
    limits = ", ".join(f"{name} {limit:g}" for name, limit in LIMITS.items())
    return Sentence(
        mark(sum(min(over, 3.0) for over in far.values()), 0, 4),
        f"Drawn counts: {what} (errors beside those of a true story).",
        f"errors of posterior draws above those of replicates among themselves by no more than "
        f"{limits}, or not significantly; {CHANCE}; doubtful up to a sum of 4 limits",
    )


def _over(row: dict[str, Any]) -> float:
    """Error above that of a true story, in limits; 0 where it is not significant."""
    if "p" not in row:  # measured by a version before 0.7
        return row["drawn"] / (1.5 * row["floor"])
    return (row["error"] - row["expected"]) / LIMITS[row["check"]] if row["p"] <= ALPHA else 0.0


def page(found: dict[str, Any]) -> list[str | Table]:
    """Errors of draws from the posterior and from the prior."""
    return [
        _table("Counts drawn from the posterior: error, 0 is best", found["rows"]),
        _table("Counts drawn from the prior", found["prior_rows"]),
    ]


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = ("check", "drawn", "real against real", "genes outside 95% of draws")
    cells = [
        (
            row["check"],
            f"{row['drawn']:.4f}",
            f"{row['floor']:.4f}",
            f"{row['extreme']:.1%}" if "extreme" in row else "",
        )
        for row in rows
    ]
    return Table(title, columns, cells)


def html(found: dict[str, Any]) -> Markup:
    """The page, after a picture of each statistic over genes."""
    genes = found["genes"]
    pictures = (
        image(_against(key, name, genes), f"Drawn against real: {name}")
        for key, name in PANELS.items()
    )
    return markup(*pictures, *page(found))


def _against(key: str, name: str, genes: dict[str, list[float]]) -> Figure:
    real, drawn = (np.array(genes[f"{key}_{side}"]) for side in ("real", "drawn"))
    figure, axes = panel(3.4, 3.2)
    axes.scatter(real, drawn, s=5, color=BLUE, alpha=0.5, linewidths=0)
    ends = [min(real.min(), drawn.min()), max(real.max(), drawn.max())]
    axes.plot(ends, ends, color=ORANGE, linewidth=1)
    scale = "linear" if key == "zero" else "log"
    axes.set(xlabel="held-out cells", ylabel="drawn cells", title=f"{name} of each gene")
    axes.set(xscale=scale, yscale=scale)
    return figure


SECTION = Section(
    name="ppc",
    question="Do drawn counts look like real counts?",
    measure=ppc,
    judge=judge,
    page=page,
    html=html,
    rank=20,
)
