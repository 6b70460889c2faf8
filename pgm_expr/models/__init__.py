"""Generative stories: one Pyro model a file, to be read beside the guide of the same name."""

from .bayesian_vae import BayesianVAE
from .conditional_prior import ConditionalPrior
from .cvae import CVAE
from .latent_library import LatentLibrary
from .vae import VAE

__all__ = [
    "BayesianVAE",
    "CVAE",
    "ConditionalPrior",
    "LatentLibrary",
    "VAE",
]
