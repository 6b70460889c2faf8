"""Guides: for each story of `models`, the page of the same name that says how to infer it."""

from .bayesian_vae import BayesianVAEGuide
from .conditional_prior import ConditionalPriorGuide
from .cvae import CVAEGuide
from .latent_library import LatentLibraryGuide
from .vae import VAEGuide

__all__ = [
    "BayesianVAEGuide",
    "CVAEGuide",
    "ConditionalPriorGuide",
    "LatentLibraryGuide",
    "VAEGuide",
]
