"""One self-contained HTML page about runs, for screen and paper: no network, no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .pages import NAMES
from .pictures import training_picture
from .tables import image

NOT_CRITICISED = "run `pgm-expr criticize` on this run"


class Section(Protocol):
    """A part of the page: a question, and the markup of what one run found."""

    @property
    def name(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def html(self) -> Callable[[Any], Markup]: ...


def html_page(runs: Sequence[Mapping[str, Any]], sections: Iterable[Section]) -> str:
    """The page: verdict, fit, baselines, then each section, runs side by side.

    Parameters
    ----------
    runs
        Each with `name`, `notes` (story.json), `history`, `metrics`, `latent_png`, the verdict as
        `headline` and `sentences`, and `criticism`: findings by section, with the reasons of
        missing ones in `not_measured`.
    sections
        In the order of the page. Where a run has no finding, the page shows the reason.
    """
    shell = ENVIRONMENT.get_template("report.html.j2")
    return shell.render(
        runs=[{"metrics": {}, "criticism": {}, **run, "pictures": _pictures(run)} for run in runs],
        sections=sections,
        names=NAMES,
        not_criticised=NOT_CRITICISED,
    )


def _pictures(run: Mapping[str, Any]) -> dict[str, Markup | None]:
    history, latent = run.get("history"), run.get("latent_png")
    return {
        "training": image(training_picture(history), "Training curve") if history else None,
        "latent": image(latent, "UMAP of the latent states") if latent else None,
    }


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


ENVIRONMENT = Environment(
    loader=PackageLoader("pgm_expr.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(number=_number, percent=_percent)
