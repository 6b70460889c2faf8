"""A criticism for the terminal, and as an HTML report of one run or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from .. import report
from .section import Section
from .sections import SECTIONS
from .verdict import headline, verdict


def criticism_page(found: Mapping[str, Any], sections: Sequence[Section] = SECTIONS) -> Group:
    """What was measured, question by question; then what was not, and why.

    Parameters
    ----------
    found
        What `criticize` returned.
    sections
        Sections that are shown, in this order.
    """
    return Group(*_parts(found, sections))


def _parts(found: Mapping[str, Any], sections: Sequence[Section]) -> Iterator[RenderableType]:
    yield f"{found['cells']} held-out cells, {found['draws']} importance draws each."
    if sentences := verdict(found, sections):
        yield escape(headline(sentences))
    for section in sections:
        if section.name in found:
            yield f"\n[bold]{section.question}[/]"
            for part in section.page(found[section.name]):
                yield escape(part) if isinstance(part, str) else part
    reasons = found["not_measured"].items()
    yield from (f"\nNot measured: {name}: {escape(why)}" for name, why in reasons)


def html_report(runs: Sequence[Mapping[str, Any]], sections: Sequence[Section] = SECTIONS) -> str:
    """One self-contained page about runs, side by side, the verdict first.

    Parameters
    ----------
    runs
        What `record` returns, of each run.
    sections
        Sections that are shown, in this order. Where a run was not criticised, or a section not
        measured, the reason stands in its place.

    Returns
    -------
    str
        HTML without scripts, whose pictures are part of it.
    """
    return report.html_page([_judged(run, sections) for run in runs], sections)


def _judged(run: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    """A run with its verdict."""
    found = run.get("criticism") or {}
    sentences = verdict(found, sections)
    judged = {"criticism": found, "sentences": sentences, "headline": headline(sentences)}
    return {**run, **judged}
