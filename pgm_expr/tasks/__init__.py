"""What fitted stories are used for."""

from .conformal import Mondrian, calibrate
from .generators import GENERATORS, Generator
from .hybrid import CountHybrid, Hybrid, fit_counts, fit_values
from .population import cells_needed, interpolate, modes, percentile_of, quantile, tail_probability
from .predictors import CrossFitted, cross_fit
from .states import States, conditions

__all__ = [
    "GENERATORS",
    "CountHybrid",
    "CrossFitted",
    "Generator",
    "Hybrid",
    "Mondrian",
    "States",
    "calibrate",
    "cells_needed",
    "conditions",
    "cross_fit",
    "fit_counts",
    "fit_values",
    "interpolate",
    "modes",
    "percentile_of",
    "quantile",
    "tail_probability",
]
