r"""Held-out log p(x | library) per cell, nats: the amortised ELBO, and IWAE at several K.

Both are means over draws of the guide. Their Monte Carlo standard error (MCSE) is that of the mean
over these cells if the draws were repeated, unlike the standard error over cells:

    ELBO    sqrt(sum_n Var_k[log w_nk] / K) / N
    IWAE    sqrt(sum_n Var_k[w_nk] / (K E_k[w_nk]^2)) / N, by the delta method: too small where a
            few draws have most of the weight (Pareto k above 0.7)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...inference import ELBO, IWAE, Objective, seeded
from ...predict import SEED, Batch

ENTRIES = 4_000_000  # particles x cells x genes held at a time: about 200 MB with what it needs

PILOT, MOST = 10, 2000  # draws per cell that tell how many are needed, and at most
PRECISION = 0.0125  # nats, the MCSE of a mean: two runs then agree to 0.05


class Bound(NamedTuple):
    """A bound of each of N cells, with the Monte Carlo standard error of its mean.

    Parameters
    ----------
    value
        Nats, (N,).
    mcse
        Nats.
    """

    value: Tensor
    mcse: float


@torch.no_grad()
def precise_elbo(
    model: nn.Module,
    guide: nn.Module,
    sweep: Callable[[], Iterable[Batch]],
    objective: Callable[..., Objective] = ELBO,
    *,
    precision: float = PRECISION,
) -> Bound:
    """Evidence lower bound of each cell, by as many draws as its mean over cells needs.

    Parameters
    ----------
    model, guide
        A fitted pair.
    sweep
        Function that returns minibatches of the N cells.
    objective
        Which bound to take.
    precision
        MCSE of the mean over cells, nats; not reached where 2,000 draws per cell do not suffice.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> found = precise_elbo(*pair, lambda: [cells], precision=0.05)
    >>> found.value.shape, found.mcse < 0.1
    (torch.Size([8]), True)
    """
    bound = objective(model, guide, cells=math.inf).eval()
    with seeded(SEED):
        total, squares = _repeated(bound, sweep(), PILOT)
        variance = (squares / PILOT - (total / PILOT) ** 2).clamp_min(0) * PILOT / (PILOT - 1)
        needed = math.ceil(variance.mean().item() / (len(total) * precision**2))
        draws = min(max(needed, PILOT), MOST)
        if draws > PILOT:
            more = _repeated(bound, sweep(), draws - PILOT)
            total, squares = total + more[0], squares + more[1]
    variance = (squares / draws - (total / draws) ** 2).clamp_min(0)
    mcse = (variance.sum() / (draws - 1)).sqrt().item() / len(total)
    return Bound(total / draws, mcse)


def _repeated(bound: Objective, batches: Iterable[Batch], draws: int) -> tuple[Tensor, Tensor]:
    """Sums over draws of the bound of each cell and of its square, (N,) each."""
    parts = [
        torch.stack([bound.per_cell(**batch).double() for _ in range(draws)]) for batch in batches
    ]
    sums = [part.sum(0) for part in parts]
    return torch.cat(sums), torch.cat([part.square().sum(0) for part in parts])


@torch.no_grad()
def elbo(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[..., Objective] = ELBO,
) -> Tensor:
    """Evidence lower bound of each cell, by one draw of the guide per cell; see `precise_elbo`.

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
    >>> sorted(bounds), bounds[50].shape
    ([1, 50], torch.Size([8]))
    """
    return {k: each.value for k, each in iwae_bounds(model, guide, batches, draws).items()}


@torch.no_grad()
def iwae_bounds(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    draws: Sequence[int] = (500, 2000),
) -> dict[int, Bound]:
    """The bounds of `iwae`, each with its Monte Carlo standard error.

    Parameters
    ----------
    model, guide, batches, draws
        As for `iwae`.
    """
    with seeded(SEED):
        rows = [_iwae_batch(model, guide, batch, sorted(draws)) for batch in batches]
    found = {}
    for k in draws:
        value, variance = (torch.cat([row[k][i] for row in rows]) for i in (0, 1))
        found[k] = Bound(value, variance.sum().sqrt().item() / len(value))
    return found


def _iwae_batch(
    model: nn.Module, guide: nn.Module, batch: Batch, draws: list[int]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Bound of each cell at each K, and the variance of its estimate."""
    x, drawn, bounds = batch["x"], 0, {}
    total = squares = torch.tensor(-math.inf, device=x.device)
    for size in _chunks(draws, max(1, ENTRIES // x.numel())):
        objective = IWAE(model, guide, cells=math.inf, particles=size).eval().to(x.device)
        weights = objective.log_weights(**batch).double()
        total = torch.logaddexp(total, weights.logsumexp(0))
        squares = torch.logaddexp(squares, (2 * weights).logsumexp(0))
        drawn += size
        if drawn in draws:
            spread = (squares - 2 * total).exp() - 1 / drawn
            bounds[drawn] = total - math.log(drawn), spread.clamp_min(0)
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
