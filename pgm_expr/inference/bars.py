"""Live progress bars: of a fit, in nats per cell, and of a comparison, in fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")


def bar(rows: Iterable[dict], epochs: int, *, show: bool = True) -> Iterator[dict]:
    """Pass the rows of a fit on, drawing a bar on stderr as they come."""
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    best = float("-inf")
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("", total=epochs)
        for row in rows:
            best = max(best, row["validation"])
            text = f"validation {row['validation']:.2f} (best {best:.2f}) nats/cell"
            progress.update(task, advance=1, description=text)
            yield row
        progress.update(task, total=progress.tasks[0].completed)


def endless(done: Iterable[Item], *, what: str, show: bool = True) -> Iterator[Item]:
    """Pass results on as they come, drawing on stderr how many there were."""
    columns = (TextColumn(what), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        yield from progress.track(done, total=None)


def tally(
    done: Iterable[Item], todo: Sized, *, what: str = "fit", show: bool = True
) -> Iterator[Item]:
    """Pass results on as they come, drawing on stderr how many of `todo` are there."""
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        yield from progress.track(done, total=len(todo))
