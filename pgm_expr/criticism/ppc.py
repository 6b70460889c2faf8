"""Do drawn counts look like real counts? Posterior and prior predictive checks, gene by gene."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from ..evaluation.counts.ppc import PredictiveCheck, predictive_check
from ..report import BLUE, ORANGE, Table, image, markup, panel
from .held_out import HeldOut
from .section import Section, Sentence, mark

PANELS = {"mean": "mean", "variance": "variance", "zero": "zero rate"}  # key: statistic
WITHIN = 1.5  # times the floor


def ppc(on: HeldOut) -> dict[str, Any]:
    """Counts drawn from the posteriors, and from the prior, against real ones."""
    posterior, prior = (
        predictive_check(partial(on.drawn, source), on.held_out.counts, on.known.counts)
        for source in ("posterior", "prior")
    )
    r, ceiling = posterior.correlation
    return {
        "rows": posterior.rows(),
        "genes": _genes(posterior),
        "correlation": {"r": r, "ceiling": ceiling},
        "prior_rows": prior.rows(),
    }


def _genes(check: PredictiveCheck) -> dict[str, list[float]]:
    """The points of the panels: real, and the mean over replicates."""
    real = {f"{k}_real": check.real[name].tolist() for k, name in PANELS.items()}
    return real | {f"{k}_drawn": check.drawn[name].mean(0).tolist() for k, name in PANELS.items()}


def judge(found: dict[str, Any]) -> Sentence:
    """By the number of checks far above the floor."""
    far = [row["check"] for row in found["rows"] if row["drawn"] > WITHIN * row["floor"]]
    what = (
        f"errors far above the floor in {', '.join(far)}" if far else "all errors near the floor"
    )
    return Sentence(
        mark(len(far), 0, 2),
        f"Drawn counts: {what} (real against real).",
        f"errors of posterior draws at most {WITHIN} times those of other real cells; doubtful "
        "up to two checks above",
    )


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
