"""Live progress bars on stderr: of a fit, in nats per cell, and of any iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

Item = TypeVar("Item")


def bar(rows: Iterable[dict], epochs: int, *, show: bool = True) -> Iterator[dict]:
    """Pass on the rows of a fit and draw a bar of epochs with the validation bound.

    Parameters
    ----------
    rows
        Rows of history, as `fit` yields them; `row["validation"]` is shown.
    epochs
        Number of epochs at which the bar is full. Training may stop earlier.
    show
        Whether to draw at all.

    Yields
    ------
    dict
        Each row, unchanged.

    Examples
    --------
    >>> rows = [{"epoch": 0, "validation": -12.5}, {"epoch": 1, "validation": -11.0}]
    >>> [row["epoch"] for row in bar(rows, epochs=2, show=False)]
    [0, 1]
    """
    best = float("-inf")
    bound = TextColumn("{task.description}")
    with _progress(
        TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), bound, show=show
    ) as progress:
        task = progress.add_task("", total=epochs)
        for row in rows:
            best = max(best, row["validation"])
            said = f"validation {row['validation']:.2f} (best {best:.2f}) nats/cell"
            progress.update(task, advance=1, description=said)
            yield row
        progress.update(task, total=progress.tasks[0].completed)


def endless(done: Iterable[Item], *, what: str, show: bool = True) -> Iterator[Item]:
    """Pass on items and count them, where their total is unknown.

    Parameters
    ----------
    done
        Items as they become available.
    what
        Name of an item, shown before the count.
    show
        Whether to draw at all.

    Yields
    ------
    Item
        Each item, unchanged.

    Examples
    --------
    >>> list(endless(iter("ab"), what="step", show=False))
    ['a', 'b']
    """
    with _progress(TextColumn(what), TextColumn("{task.completed}"), show=show) as progress:
        yield from progress.track(done, total=None)


def tally(
    done: Iterable[Item], todo: Sized, *, what: str = "fit", show: bool = True
) -> Iterator[Item]:
    """Pass on items and draw a bar of how many of `todo` are finished.

    Parameters
    ----------
    done
        Items as they become available.
    todo
        All items; only their number is used.
    what
        Name of an item, shown before the bar.
    show
        Whether to draw at all.

    Yields
    ------
    Item
        Each item, unchanged.

    Examples
    --------
    >>> list(tally(iter([1, 4, 9]), todo=range(3), show=False))
    [1, 4, 9]
    """
    with _progress(TextColumn(what), MofNCompleteColumn(), BarColumn(), show=show) as progress:
        yield from progress.track(done, total=len(todo))


def _progress(*columns: ProgressColumn, show: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=console, disable=not show)
