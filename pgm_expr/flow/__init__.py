"""Flows: invertible maps from noise to states, with a density; plain torch."""

from .continuous import ContinuousFlow
from .coupling import independent, optimal_transport
from .matching import FlowMatching
from .normalizing import SplineFlow
from .ode import dopri5, euler, midpoint, rk4

__all__ = [
    "ContinuousFlow",
    "FlowMatching",
    "SplineFlow",
    "dopri5",
    "euler",
    "independent",
    "midpoint",
    "optimal_transport",
    "rk4",
]
