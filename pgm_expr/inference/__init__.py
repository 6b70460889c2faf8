"""Objectives and the engine that trains a story with them."""

from .checkpoint import load_tensors, save_tensors, write_atomically
from .collapse import LatentUse, PosteriorCollapse, latent_use
from .enumerated import Enum
from .fit import Plan, fit, score
from .importance import IWAE, Renyi
from .lint import check_story
from .objective import ELBO, MeanField, Objective, Trace
from .postmortem import NONFINITE
from .resume import CHECKPOINT
from .rng import seeded
from .sleep import sleep
from .tracing import Batch, call

__all__ = [
    "CHECKPOINT",
    "ELBO",
    "IWAE",
    "NONFINITE",
    "Batch",
    "Enum",
    "LatentUse",
    "MeanField",
    "Objective",
    "Plan",
    "PosteriorCollapse",
    "Renyi",
    "Trace",
    "call",
    "check_story",
    "fit",
    "latent_use",
    "load_tensors",
    "save_tensors",
    "score",
    "seeded",
    "sleep",
    "write_atomically",
]
