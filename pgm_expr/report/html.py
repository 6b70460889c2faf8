"""One self-contained HTML page about runs, for screen and paper: no network, no script."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import criticism_pictures as pictures
from .pages import NAMES
from .pictures import training_picture
from .words import headline, verdict


def write_html(runs: Sequence[Mapping[str, Any]]) -> str:
    """The page. Each run: name, notes (story.json), history, metrics, criticism, latent_png.

    A section that a run lacks is told as not measured, with the reason.
    """
    environment = Environment(
        loader=PackageLoader("pgm_expr.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent)
    page = environment.get_template("report.html.j2")
    several = {
        "ppc": _picture(pictures.ppc_picture, pictures.sections_with(runs, "ppc")),
        "calibration": _picture(
            pictures.calibration_picture, pictures.sections_with(runs, "calibration")
        ),
    }
    return page.render(
        runs=[_shown(run, len(runs) > 1) for run in runs], several=several, names=NAMES
    )


def _shown(run: Mapping[str, Any], stacked: bool) -> dict[str, Any]:
    """A run with its verdict and pictures."""
    told = run.get("criticism") or {"not_measured": {}}
    sentences = verdict(told)
    return {
        **{"metrics": {}, **run},
        "criticism": told,
        "missing": told.get("not_measured", {}),
        "sentences": sentences,
        "headline": headline(sentences),
        "pictures": {
            "training": _picture(training_picture, run.get("history")),
            "latent": _uri(run.get("latent_png")),
            "health": _picture(pictures.health_picture, told.get("health"), stacked=stacked),
            "sbc": _picture(pictures.sbc_picture, told.get("sbc"), stacked=stacked),
        },
    }


def _picture(draw: Callable[..., bytes], told: Any, **options: bool) -> str | None:
    return _uri(draw(told, **options)) if told else None


def _uri(picture: bytes | None) -> str | None:
    return picture and f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
