"""Names of 0.5.0 that files outside of data still import. To be removed with their last use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Columns:
    """Replaced by a dict of arguments, see `pgm_expr.data.ARGUMENTS`."""

    labels_key: str | None = None


def change(*args: Any) -> Any:
    """Replaced by `Encoding.set_to`."""
    raise NotImplementedError


def labelled(*args: Any) -> Any:
    """Replaced by `Label.labelled`."""
    raise NotImplementedError
