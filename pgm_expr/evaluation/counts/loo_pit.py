r"""What `az.plot_loo_pit` takes: counts, draws of them that have not seen them, weights of draws.

    az.plot_loo_pit(**left_out(...))

`az.plot_loo_pit(data, y="x")`, with the data of `to_arviz`, is refused by ArviZ, since log p is of
cells and x of their genes; and importance weights cannot leave a cell out of the posterior of
its own state (see `inference_data`). Here counts are left out in truth, one half of those of a
cell, or a cell is left out of the posterior of what all cells share.

ArviZ (0.x) sums the weights of the draws at or below each count. Most counts are 0, and nearly all
draws are at or below; of whole numbers it takes a spline from one cell to the next; and sums of S
equal weights have S + 1 values. None is uniform under a right story. So U(0, 1) is added to each
count and draw, which breaks ties, and one more draw, below all counts, weighs v / (S + 1) with v ~
U(0, 1), the others S / (S + 1) together: what ArviZ plots is the randomised PIT of `pit`, uniform
whatever S. Its bands take the genes of a cell for independent, so they are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from ...inference import seeded
from ...predict import SEED, Batch
from ..arviz import psislw
from ..inference_data import check_size, given_shared
from .pit import Predict

Arguments = dict[str, np.ndarray]  # y (N, G), y_hat and log_weights (N, G, S + 1)


@torch.no_grad()
def left_out(
    predict: Predict,
    pairs: Iterable[tuple[Batch, Batch]],
    *,
    draws: int = 100,
    only: Sequence[int] | None = None,
) -> Arguments:
    """Of counts predicted from others of the same cells, for any story.

    `predict` and `pairs` are those of `pit.predictions`: halves of the counts of a cell, say;
    `only` are positions of genes, all by default. The counts were left out already, so all draws
    weigh the same. ValueError where they would take more than 0.8 GB.
    """
    kept = list(pairs)
    genes = [*range(kept[0][1]["x"].shape[1])] if only is None else [*only]
    check_size(sum(len(asked["x"]) for _, asked in kept), len(genes), draws)
    with seeded(SEED):
        parts = [[predict(*pair).sample()[:, genes] for _ in range(draws)] for pair in kept]
    y = torch.cat([asked["x"][:, genes] for _, asked in kept]).cpu().numpy()
    y_hat = torch.cat([torch.stack(drawn, -1) for drawn in parts]).cpu().numpy()
    return _arguments(y, y_hat, np.full((len(y), draws), -np.log(draws)))


@torch.no_grad()
def left_out_of_shared(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 100, k: int = 50
) -> Arguments:
    """Of new cells at draws of what all cells share, weighed as if each cell had not been seen.

    The weights are those of `inference_data.loo`, 1 / p(x_n | shared) smoothed by ArviZ.
    ValueError for a story without such sites.
    """
    kept = list(batches)
    log_p, drawn = given_shared(model, guide, kept, draws, k)
    log_weights, _ = psislw(-log_p.T)
    y = torch.cat([batch["x"] for batch in kept]).cpu().numpy()
    return _arguments(y, np.moveaxis(drawn, 0, -1), log_weights)


def _arguments(y: np.ndarray, y_hat: np.ndarray, log_weights: np.ndarray) -> Arguments:
    """PITs made uniform; the weights (N, S) of a cell are those of each of its genes."""
    rng, draws = np.random.default_rng(SEED), y_hat.shape[-1]
    if (y == y.round()).all():
        y, y_hat = (each + rng.random(each.shape, np.float32) for each in (y, y_hat))
    below = np.log(1 - rng.random(y.shape)) - np.log(draws + 1)
    kept = np.broadcast_to(log_weights[:, None], y_hat.shape) + np.log(draws / (draws + 1))
    pairs = {"y_hat": (y_hat, np.full_like(y, -np.inf)), "log_weights": (kept, below)}
    more = {k: np.concatenate([v, one[..., None]], -1) for k, (v, one) in pairs.items()}
    return {"y": y, **more}
