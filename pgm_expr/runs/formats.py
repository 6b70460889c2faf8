"""The format of `story.json`, and what reading another one means.

    format  versions   policy
    0       to 0.5.0   no number in the file; read as it is
    1       0.6.0      the number itself

A finished run of an older format loads for good, with the same figures. A newer format than this
version knows is refused by name. An unfinished run is resumed by the format that began it only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1


def check_format(path: str | Path, notes: Mapping[str, Any]) -> None:
    """ValueError for a run that a later version wrote."""
    found = notes.get("format", 0)
    if not isinstance(found, int) or found > FORMAT:
        raise ValueError(
            f"'{path}' is a run of format {found!r}: this version reads formats up to {FORMAT}. "
            "Update pgm_expr."
        )
