"""The sections of a criticism, by name: functions of `HeldOut` that return plain data."""

from collections.abc import Callable, Mapping
from typing import Any

from ..api.counts import calibration, markers, predictive, told_apart
from ..api.guide import calibrated, health, heldout, referred
from ..api.held_out import HeldOut
from ..api.states import kept_differences, novel, typical
from ..api.structure import explained, mixed, structure

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
