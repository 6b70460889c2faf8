"""What a person sees of a run: a progress bar and pictures."""

from .pictures import latent_picture, training_picture
from .progress import bar

__all__ = ["bar", "latent_picture", "training_picture"]
