"""Guides: for each story of `models`, the page of the same name that says how to infer it."""

from .vae import VAEGuide

__all__ = ["VAEGuide"]
