"""Objectives and the engine that trains a story with them."""

from .checkpoint import load_tensors, save_tensors, write_atomically
from .collapse import LatentUse, PosteriorCollapse, latent_use
from .fit import Plan, fit, score
from .objective import IWAE, MeanField, Objective, Trace
from .tracing import call

__all__ = [
    "IWAE",
    "LatentUse",
    "MeanField",
    "Objective",
    "Plan",
    "PosteriorCollapse",
    "Trace",
    "call",
    "fit",
    "latent_use",
    "load_tensors",
    "save_tensors",
    "score",
    "write_atomically",
]
