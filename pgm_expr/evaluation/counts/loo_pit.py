r"""Arguments of `az.plot_loo_pit`: counts, draws that have not seen them, weights of draws.

    az.plot_loo_pit(**left_out(...))

ArviZ refuses `az.plot_loo_pit(data, y="x")` with the data of `to_arviz`, where log p is of cells
and x of their genes; and importance weights cannot leave a cell out of the posterior of its state
(see `inference_data`). Here counts are left out in fact: one half of those of a cell, or a cell is
left out of the posterior of the sites that all cells share.

ArviZ (0.x) sums the weights of the draws at or below each count. Most counts are 0, and nearly all
draws are at or below; for integers it fits a spline from one cell to the next; and sums of S equal
weights have S + 1 values. None is uniform under a correct story. So U(0, 1) is added to each count
and draw, which breaks ties, and one more draw, below all counts, has weight v / (S + 1) with v ~
U(0, 1), the others S / (S + 1) together: what ArviZ plots is the randomised PIT of `pit`, uniform
whatever S. Its bands treat the genes of a cell as independent, so they are too narrow.
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
    """Arguments for counts predicted from other counts of the same cells, for any story.

    The counts are left out in fact, so all draws have equal weight.

    Parameters
    ----------
    predict, pairs
        As for `pit.predictions`: halves of the counts of each cell, for example.
    draws
        Number of draws S.
    only
        Positions of genes, all by default.

    Returns
    -------
    dict
        `y` (N, G), `y_hat` and `log_weights` (N, G, S + 1).

    Raises
    ------
    ValueError
        Where they take more than 0.8 GB.

    Examples
    --------
    >>> import pyro.distributions as dist
    >>> poisson = dist.Poisson(torch.full((4, 5), 3.0)).to_event(1)
    >>> cells = {"x": torch.ones(4, 5)}
    >>> given = left_out(lambda given, target: poisson, [(cells, cells)], draws=10)
    >>> given["y"].shape, given["y_hat"].shape
    ((4, 5), (4, 5, 11))
    """
    kept = list(pairs)
    genes = [*range(kept[0][1]["x"].shape[1])] if only is None else [*only]
    check_size(sum(len(target["x"]) for _, target in kept), len(genes), draws)
    with seeded(SEED):
        parts = [[predict(*pair).sample()[:, genes] for _ in range(draws)] for pair in kept]
    y = torch.cat([target["x"][:, genes] for _, target in kept]).cpu().numpy()
    y_hat = torch.cat([torch.stack(drawn, -1) for drawn in parts]).cpu().numpy()
    return _arguments(y, y_hat, np.full((len(y), draws), -np.log(draws)))


@torch.no_grad()
def left_out_of_shared(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], *, draws: int = 100, k: int = 50
) -> Arguments:
    """Arguments for new cells at draws of the sites that all cells share, each cell left out.

    The weights are those of `inference_data.loo`, 1 / p(x_n | shared) smoothed by ArviZ.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    draws
        Draws S of the shared sites.
    k
        Importance draws of the state of each cell.

    Returns
    -------
    dict
        As `left_out`.

    Raises
    ------
    ValueError
        For a story without such sites.
    """
    kept = list(batches)
    log_p, drawn = given_shared(model, guide, kept, draws, k)
    log_weights, _ = psislw(-log_p.T)
    y = torch.cat([batch["x"] for batch in kept]).cpu().numpy()
    return _arguments(y, np.moveaxis(drawn, 0, -1), log_weights)


def _arguments(y: np.ndarray, y_hat: np.ndarray, log_weights: np.ndarray) -> Arguments:
    """Counts, draws and weights of a uniform PIT; each gene has the weights (N, S) of its cell."""
    rng, draws = np.random.default_rng(SEED), y_hat.shape[-1]
    if (y == y.round()).all():
        y, y_hat = (each + rng.random(each.shape, np.float32) for each in (y, y_hat))
    below = np.log(1 - rng.random(y.shape)) - np.log(draws + 1)
    kept = np.broadcast_to(log_weights[:, None], y_hat.shape) + np.log(draws / (draws + 1))
    pairs = {"y_hat": (y_hat, np.full_like(y, -np.inf)), "log_weights": (kept, below)}
    more = {k: np.concatenate([v, one[..., None]], -1) for k, (v, one) in pairs.items()}
    return {"y": y, **more}
