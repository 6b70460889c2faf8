"""Pieces of error messages: short lists, the name that was probably meant, what went wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def listing(names: Iterable[object], limit: int = 10) -> str:
    """`'a', 'b' and 3 more`; `nothing` for no names at all."""
    shown = [repr(str(name)) for name in names]
    if not shown:
        return "nothing"
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


def near(name: object, known: Iterable[object]) -> str:
    """` Did you mean 'a', 'b'?` for the closest names, case ignored; else an empty string."""
    folded = {str(candidate).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).lower(), list(folded), n=3)
    return f" Did you mean {listing(folded[match] for match in close)}?" if close else ""


def one_line(error: BaseException) -> str:
    """The text of another library's exception on one line, without its full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__


def refuse_absent(path: Path, what: str) -> None:
    """Raise FileNotFoundError where there is no such path, with the names beside it."""
    if not path.exists():
        here = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"{path} does not exist.{near(path.name, here)} Check the path to {what}."
        )
