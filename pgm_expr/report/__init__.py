"""What a person sees of a run: a progress bar, pages for the terminal, pictures."""

from .comparison import comparison_page, comparison_picture
from .criticism import criticism_page
from .html import write_html
from .pages import fit_page, metrics_page, prediction_line, zoo_page
from .pictures import latent_picture, training_picture

__all__ = [
    "comparison_page",
    "comparison_picture",
    "criticism_page",
    "fit_page",
    "latent_picture",
    "metrics_page",
    "prediction_line",
    "training_picture",
    "write_html",
    "zoo_page",
]
