"""What fitted stories are used for."""

from .generators import GENERATORS, Generator
from .population import cells_needed, interpolate, modes, percentile_of, quantile, tail_probability
from .states import States, conditions

__all__ = [
    "GENERATORS",
    "Generator",
    "States",
    "cells_needed",
    "conditions",
    "interpolate",
    "modes",
    "percentile_of",
    "quantile",
    "tail_probability",
]
