"""Simulated cells with known causes: the ground truth that methods are tested against."""

from .draw import Scales, simulate
from .truth import Truth

__all__ = ["Scales", "Truth", "simulate"]
