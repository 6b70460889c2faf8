r"""Per-cell refined posteriors, and the amortisation gap: what refinement gains in ELBO.

A guide serves all cells with one network. Here the model is frozen and every cell gets free
variational parameters, which start at the guide's:

    q(z_n)   = Normal(loc_n, scale_n^2)                                loc_n, scale_n (D,)
    bound_n  = E_q[log p(x_n | z_n) + log p(z_n) - log q(z_n)]         nats
    gap_n    = max over (loc_n, scale_n) of bound_n - the guide's bound_n

A constrained latent (positive, simplex) is the image of z_n under torch's bijection to its
support. Where the gap is large, a better encoder helps; where it is small and the bound still far
from IWAE, only a richer variational family or another decoder does.

Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders, ICML 2018,
https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine import Trace as PyroTrace
from torch import Tensor, nn
from torch.distributions import biject_to, constraints

from ...inference import Trace, seeded
from ...inference.tracing import CELLS, sample_sites
from ...predict import SEED, Batch
from ..bounds.held_out import ENTRIES
from .sites import cell_sites, evaluating, shared_sites

START = 200  # draws that estimate start values where moments have no closed form
NARROW = 1e-4  # least standard deviation to start from: a point mass could never widen


class Refined(NamedTuple):
    """Evidence lower bounds of N cells before and after per-cell refinement.

    Parameters
    ----------
    amortised
        ELBO of the guide, nats, (N,).
    refined
        ELBO of the best diagonal normal found, nats, (N,).
    latent
        Refined posterior means, (N, D); for constrained sites, the images of means.
    """

    amortised: Tensor
    refined: Tensor
    latent: Tensor

    @property
    def gap(self) -> Tensor:
        """Gain of refinement, nats, (N,); negative where the guide's family is richer."""
        return self.refined - self.amortised


def amortisation_gap(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    particles: int = 4,
    draws: int = 50,
) -> Refined:
    """Refine the posterior of each cell by gradient steps; model and guide stay as they are.

    The learning rate falls to zero along a cosine. Both bounds are estimated with the same noise
    draws, none of which a step has seen. Latents of a cell are refined as independent of each
    other. Sites that all cells share are drawn once from the guide and held; their cost is left
    out of both bounds.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batches
        Minibatches of the N cells.
    steps
        Steps of Adam.
    learning_rate
        Initial learning rate.
    particles
        Draws per cell and step.
    draws
        Draws per cell that the bounds are estimated with.

    Raises
    ------
    ValueError
        For a discrete latent of cells (`DiscreteLatent`), and a story without a latent state of
        cells.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> cells = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> found = amortisation_gap(*pair, [cells], steps=20)
    >>> found.gap.shape, found.latent.shape
    (torch.Size([8]), torch.Size([8, 2]))
    """
    shared, parts = None, []
    refine = partial(
        refined_guide, model, guide, steps=steps, learning_rate=learning_rate, particles=particles
    )
    with evaluating(model, guide), seeded(SEED):
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            seed = int(torch.randint(2**31, ()))
            with refine(batch, shared=shared) as refined:
                bounds = (_bound(model, q, batch, draws, seed) for q in (guide, refined))
                parts.append((*bounds, refined.means()))
    return Refined(*map(torch.cat, zip(*parts, strict=True)))


@contextmanager
def refined_guide(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    particles: int = 4,
    shared: PyroTrace | None = None,
) -> Iterator[PerCell]:
    """Within the block, a guide with a refined posterior for each cell of a minibatch.

    Both halves are in evaluation mode there, and sites that all cells share are held.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batch
        Minibatch of the cells.
    steps, learning_rate, particles
        As for `amortisation_gap`.
    shared
        Draw of the sites that all cells share; a new one by default.

    Yields
    ------
    PerCell
        A guide for this minibatch alone; `means()` are its posterior means, (N, D).

    Raises
    ------
    ValueError
        As `amortisation_gap`.
    """
    with evaluating(model, guide):
        shared = shared_sites(guide, batch) if shared is None else shared
        with poutine.replay(trace=shared):
            refined = PerCell(shared, cell_sites(model, guide, batch))
            _ascend(model, refined, batch, steps, learning_rate, particles)
            yield refined


class PerCell(nn.Module):
    """A guide with free loc and log scale for every cell of one minibatch, site by site."""

    def __init__(self, shared: PyroTrace, sites: Mapping[str, dict]) -> None:
        super().__init__()
        self.shared, self.sites = shared, sites
        self.bijections = {name: biject_to(site["fn"].support) for name, site in sites.items()}
        self.free = {name: _start(site["fn"]) for name, site in sites.items()}

    def forward(self, library: Tensor) -> None:
        for site in sample_sites(self.shared):  # replayed: the values are those drawn before
            pyro.sample(site["name"], site["fn"])
        with pyro.plate(CELLS, len(library)):
            for name, site in self.sites.items():
                with poutine.mask(mask=True if site["mask"] is None else site["mask"]):
                    pyro.sample(name, self.posterior(name))

    def posterior(self, name: str) -> dist.TorchDistribution:
        loc, log_scale = self.free[name]  # (N, ...) unconstrained
        q = dist.Normal(loc, log_scale.exp()).to_event(loc.dim() - 1)
        return dist.TransformedDistribution(q, [self.bijections[name]])

    @torch.no_grad()
    def means(self) -> Tensor:
        """Posterior means, concatenated over sites, (N, D)."""
        values = (self.bijections[name](loc) for name, (loc, _) in self.free.items())
        return torch.cat([value.reshape(len(value), -1) for value in values], -1)


@torch.no_grad()
def _start(q: dist.TorchDistribution) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of a latent, unconstrained; leaves to optimise."""
    try:
        if getattr(q.support, "base_constraint", q.support) is not constraints.real:
            raise NotImplementedError  # moments before the bijection are needed
        mean, scale = q.mean, q.stddev
    except NotImplementedError:
        values = biject_to(q.support).inv(q.sample((START,)))
        mean, scale = values.mean(0), values.std(0)
    return mean.clone().requires_grad_(), scale.clamp_min(NARROW).log().requires_grad_()


@torch.enable_grad()
def _ascend(
    model: nn.Module,
    refined: PerCell,
    batch: Batch,
    steps: int,
    learning_rate: float,
    particles: int,
) -> None:
    """Raise the bound of all cells at once; gradients reach nothing but `refined`."""
    leaves = [leaf for pair in refined.free.values() for leaf in pair]
    bound = Trace(model, refined, cells=math.inf, particles=particles)
    optimizer = torch.optim.Adam(leaves, learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(steps):
        optimizer.zero_grad()
        (-bound.per_cell(**batch).sum()).backward(inputs=leaves)
        optimizer.step()
        decay.step()


@torch.no_grad()
def _bound(model: nn.Module, q: nn.Module, batch: Batch, draws: int, seed: int) -> Tensor:
    """Evidence lower bound of each cell, (N,): the mean over draws, which come in chunks."""
    total = torch.zeros((), device=batch["x"].device)
    with seeded(seed):
        for chunk in torch.arange(draws).split(max(1, ENTRIES // batch["x"].numel())):
            bound = Trace(model, q, cells=math.inf, particles=len(chunk))
            total = total + bound.per_cell(**batch) * len(chunk)
    return total / draws
