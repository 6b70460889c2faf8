r"""Held-out log p(x | library) per cell, nats: the amortised ELBO, and IWAE at several K."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ...inference import ELBO, IWAE, Objective, seeded
from ...predict import SEED, Batch

ENTRIES = 4_000_000  # particles x cells x genes held at a time: about 200 MB with what it needs


@torch.no_grad()
def elbo(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[..., Objective] = ELBO,
) -> Tensor:
    """Evidence lower bound of each cell, by one draw of the guide per cell.

    Sites that all cells share are drawn from the guide; their cost was paid in training.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    objective
        Which bound to take.

    Returns
    -------
    Tensor
        Nats, (N,).

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> elbo(*pair, [cells]).shape
    torch.Size([8])
    """
    bound = objective(model, guide, cells=math.inf).eval()
    with seeded(SEED):
        return torch.cat([bound.per_cell(**batch) for batch in batches])


@torch.no_grad()
def iwae(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    draws: Sequence[int] = (500, 2000),
) -> dict[int, Tensor]:
    r"""Importance-weighted bound of each cell at several numbers of draws K.

        log 1/K sum_k p(x, z_k) / q(z_k | x),  z_k ~ q(z | x)

    The bound rises towards log p(x | library) with K. Draws come in chunks, so memory is bounded
    whatever K.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    draws
        Values of K. Smaller ones use the first draws of the largest.

    Returns
    -------
    dict
        Nats by K, (N,) each.

    References
    ----------
    Burda, Grosse and Salakhutdinov, ICLR 2016, https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> bounds = iwae(*pair, [cells], draws=(1, 50))
    >>> bool(bounds[50].mean() > bounds[1].mean())
    True
    """
    with seeded(SEED):
        rows = [_iwae_batch(model, guide, batch, sorted(draws)) for batch in batches]
    return {k: torch.cat([row[k] for row in rows]) for k in draws}


def _iwae_batch(
    model: nn.Module, guide: nn.Module, batch: Batch, draws: list[int]
) -> dict[int, Tensor]:
    x, drawn, bounds = batch["x"], 0, {}
    total = torch.tensor(-math.inf, device=x.device)
    for size in _chunks(draws, max(1, ENTRIES // x.numel())):
        objective = IWAE(model, guide, cells=math.inf, particles=size).eval().to(x.device)
        weights = objective.log_weights(**batch).double()
        total = torch.logaddexp(total, weights.logsumexp(0))
        drawn += size
        if drawn in draws:
            bounds[drawn] = total - math.log(drawn)
    return bounds


def _chunks(draws: list[int], most: int) -> Iterator[int]:
    """Chunk sizes of at most `most` whose running sum passes through every K of `draws`."""
    for before, k in zip([0, *draws], draws, strict=False):
        whole, rest = divmod(k - before, most)
        yield from [most] * whole + [rest] * bool(rest)


def standard_error(per_cell: Tensor) -> float:
    """Standard error of the mean of a figure of N cells, (N,).

    Examples
    --------
    >>> round(standard_error(torch.tensor([1.0, 2.0, 3.0])), 3)
    0.577
    """
    return (per_cell.double().std() / math.sqrt(len(per_cell))).item()
