"""The sections of a criticism, in the order of the pages; to add one, add a row."""

from . import (
    calibration,
    differential,
    explained,
    health,
    heldout,
    markers,
    mixing,
    novelty,
    ppc,
    reference,
    sbc,
    structure,
    two_sample,
    typicality,
)
from .section import Section

SECTIONS: tuple[Section, ...] = (
    heldout.SECTION,
    health.SECTION,
    reference.SECTION,
    sbc.SECTION,
    ppc.SECTION,
    calibration.SECTION,
    two_sample.SECTION,
    markers.SECTION,
    structure.SECTION,
    explained.SECTION,
    mixing.SECTION,
    novelty.SECTION,
    typicality.SECTION,
    differential.SECTION,
)
