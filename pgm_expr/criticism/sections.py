"""The sections of a criticism, by name: functions of `HeldOut` that return plain data."""

from collections.abc import Callable, Mapping
from typing import Any

from .counts import calibration, markers, predictive, told_apart
from .guide import calibrated, health, heldout, referred
from .held_out import HeldOut
from .states import kept_differences, novel, typical
from .structure import explained, mixed, structure

SECTIONS: Mapping[str, Callable[[HeldOut], Any]] = {
    "heldout": heldout,
    "health": health,
    "reference": referred,
    "sbc": calibrated,
    "ppc": predictive,
    "calibration": calibration,
    "two_sample": told_apart,
    "markers": markers,
    "structure": structure,
    "explained": explained,
    "mixing": mixed,
    "novelty": novel,
    "typicality": typical,
    "differential": kept_differences,
}
