"""Generative stories: one Pyro model a file, to be read beside the guide of the same name."""

from .vae import VAE

__all__ = ["VAE"]
