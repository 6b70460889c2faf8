"""Generative stories: one Pyro model a file, to be read beside the guide of the same name."""

from .bayesian_vae import BayesianVAE
from .latent_library import LatentLibrary
from .vae import VAE

__all__ = ["VAE", "BayesianVAE", "LatentLibrary"]
