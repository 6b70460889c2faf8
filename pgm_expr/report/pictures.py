"""Figures as PNG: panels, the training curve and the latent space."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = (
    "#4477aa #ee6677 #228833 #ccbb44 #66ccee #aa3377 #bbbbbb #000000 #e69f00 #009e73 "
    "#882255 #999933"
).split()  # Paul Tol's bright palette and more, safe for colour-blind readers
UNLABELLED = "#dddddd"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.75"  # safe for colour-blind readers


History = Sequence[Mapping[str, float]]  # one row an epoch


def kept(history: History) -> Mapping[str, float]:
    """The row of the epoch whose weights were kept: the best since the warm-up ended."""
    return max(history, key=lambda row: (row["beta"], row["validation"]))


def training_picture(history: History) -> bytes:
    """PNG of the bound by epoch, on training and validation cells."""
    epochs = [row["epoch"] for row in history]
    figure, axes = panel(7, 4)
    axes.plot(epochs, [-row["train"] for row in history], label="training (tempered)")
    validation = [row["validation"] for row in history]
    axes.plot(epochs, validation, label="validation")
    epoch = kept(history)["epoch"]
    axes.axvline(epoch, color="0.6", linestyle=":", label=f"kept: {epoch}")
    low, high = (
        np.quantile(validation, 0.05),
        max(*validation, *(-row["train"] for row in history)),
    )
    axes.set_ylim(low - 0.2 * (high - low) - 1, high + 0.05 * (high - low) + 1)
    axes.set(xlabel="epoch", ylabel="bound, nats per cell", title="Training curve")
    axes.legend(frameon=False)
    return png(figure)


def latent_picture(
    latent: np.ndarray, labels: Sequence[str] | np.ndarray | None, *, seed: int = 0
) -> bytes:
    """PNG of a UMAP of posterior means (N, D), coloured by label where there are any."""
    figure, axes = panel(8, 5)
    places = _umap(latent, seed)
    names = np.asarray(["cells"] * len(latent) if labels is None else labels)
    for number, name in enumerate(sorted(set(names))):
        colour = UNLABELLED if name == "unlabelled" else COLOURS[number % len(COLOURS)]
        x, y = places[names == name].T
        axes.scatter(x, y, s=8, color=colour, label=name, linewidths=0)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2", title="Latent space")
    if labels is not None:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return png(figure)


def _umap(latent: np.ndarray, seed: int) -> np.ndarray:
    import anndata
    import scanpy
    import torch

    table = anndata.AnnData(obsm={"latent": latent}, shape=(len(latent), 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and umap
        neighbours = min(15, len(latent) - 1)
        threads = torch.get_num_threads()  # numba sets OpenMP's number for the whole process
        scanpy.pp.neighbors(table, use_rep="latent", n_neighbors=neighbours, random_state=seed)
        scanpy.tl.umap(table, random_state=seed)
        torch.set_num_threads(threads)
    return table.obsm["X_umap"]


def panel(width: float = 5.25, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure of one panel, sizes in inches: on an HTML page two stand side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()
