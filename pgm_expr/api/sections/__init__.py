"""The sections of a criticism, by name: each is a function of a bench that tells plain data."""

from collections.abc import Callable, Mapping
from typing import Any

from ..bench import Bench
from .counts import calibration, predictive, told_apart
from .guide import calibrated, health, heldout
from .states import kept_differences, structure, typical

SECTIONS: Mapping[str, Callable[[Bench], Any]] = {
    "heldout": heldout,
    "health": health,
    "sbc": calibrated,
    "ppc": predictive,
    "calibration": calibration,
    "two_sample": told_apart,
    "structure": structure,
    "typicality": typical,
    "differential": kept_differences,
}
