"""What a person sees of a run: a progress bar, pages for the terminal, pictures."""

from .pages import fit_page, metrics_page, zoo_page
from .pictures import latent_picture, training_picture
from .progress import bar

__all__ = [
    "bar",
    "fit_page",
    "latent_picture",
    "metrics_page",
    "training_picture",
    "zoo_page",
]
