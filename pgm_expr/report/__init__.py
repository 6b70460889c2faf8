"""How results are shown: pages and tables for the terminal, pictures, the HTML page."""

from .comparison import comparison_page, comparison_picture
from .html import html_page
from .pages import fit_page, metrics_page, prediction_line, zoo_page
from .pictures import BLUE, GREY, ORANGE, latent_picture, panel, training_picture
from .tables import Table, image, markup

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "Table",
    "comparison_page",
    "comparison_picture",
    "fit_page",
    "html_page",
    "image",
    "latent_picture",
    "markup",
    "metrics_page",
    "panel",
    "prediction_line",
    "training_picture",
    "zoo_page",
]
