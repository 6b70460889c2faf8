r"""The amortisation gap: what a cell's bound gains once its posterior is its own.

A guide serves all cells with one network. Here the model stays frozen and every cell gets a free
posterior, which starts at the guide's:

    q(z_n)   = Normal(loc_n, scale_n^2)                                loc_n, scale_n (D,)
    bound_n  = E_q[log p(x_n | z_n) + log p(z_n) - log q(z_n)]         nats
    gap_n    = max over (loc_n, scale_n) of bound_n - the guide's bound_n

A constrained latent (positive, simplex) is the image of z_n under torch's bijection to its
support. A large gap asks for a better encoder; without one, only a richer family or decoder helps.

Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders, ICML 2018,
https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine import Trace as PyroTrace
from torch import Tensor, nn
from torch.distributions import biject_to, constraints

from ...inference import Trace, call, seeded
from ...inference.tracing import CELLS, sample_sites, traces, within_cells
from ...predict import SEED, Batch
from ..bounds.held_out import ENTRIES

START = 200  # draws that place a posterior whose mean has no closed form
NARROW = 1e-4  # and the least standard deviation to start from: a point mass could never widen


class DiscreteLatent(ValueError):
    """A cell's latent that has no gradient to refine it by."""


class Refined(NamedTuple):
    """Evidence lower bounds of N cells in nats, before and after refinement by cell."""

    amortised: Tensor  # (N,) of the guide, its own family
    refined: Tensor  # (N,) of the best diagonal normal found
    latent: Tensor  # (N, D) refined posterior means; of constrained sites, the images of means

    @property
    def gap(self) -> Tensor:
        """What refinement gains, (N,), in nats; negative where the guide's family is richer."""
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
    """Refine the posterior of each cell by `steps` of Adam; model and guide stay as they are.

    Each step takes `particles` draws a cell, and the rate falls to zero along a cosine. Both
    bounds are then estimated with the same `draws` noise draws, none of which a step has seen.
    Latents of a cell are refined as independent of each other. Sites that all cells share are
    drawn once from the guide and held there: both bounds are given them, their cost left out.
    """
    shared, parts = None, []
    how = dict(steps=steps, learning_rate=learning_rate, particles=particles)
    with evaluating(model, guide), seeded(SEED):
        for batch in batches:
            shared = shared_sites(guide, batch) if shared is None else shared
            seed = int(torch.randint(2**31, ()))
            with refined_guide(model, guide, batch, shared=shared, **how) as own:
                bounds = (_bound(model, q, batch, draws, seed) for q in (guide, own))
                parts.append((*bounds, own.means()))
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
) -> Iterator[nn.Module]:
    """Within the block, the guide whose posteriors are those cells' own: as `amortisation_gap`.

    Both halves are in evaluation mode there, and sites that all cells share stay at `shared`.
    """
    with evaluating(model, guide):
        shared = shared_sites(guide, batch) if shared is None else shared
        with poutine.replay(trace=shared):
            own = _PerCell(shared, cell_sites(model, guide, batch))
            _ascend(model, own, batch, steps, learning_rate, particles)
            yield own


class _PerCell(nn.Module):
    """Free loc and log scale of every cell of one batch, site by site."""

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
        """Posterior means of all sites side by side, (N, D)."""
        values = (self.bijections[name](loc) for name, (loc, _) in self.free.items())
        return torch.cat([value.reshape(len(value), -1) for value in values], -1)


@torch.no_grad()
def _start(q: dist.TorchDistribution) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of a cell's latent, unconstrained; leaves to optimise."""
    try:
        if getattr(q.support, "base_constraint", q.support) is not constraints.real:
            raise NotImplementedError  # the moments wanted are those before the bijection
        mean, scale = q.mean, q.stddev
    except NotImplementedError:
        values = biject_to(q.support).inv(q.sample((START,)))
        mean, scale = values.mean(0), values.std(0)
    return mean.clone().requires_grad_(), scale.clamp_min(NARROW).log().requires_grad_()


@torch.enable_grad()
def _ascend(
    model: nn.Module, own: _PerCell, batch: Batch, steps: int, learning_rate: float, particles: int
) -> None:
    """Raise the bound of all cells side by side; gradients reach nothing but `own`."""
    leaves = [leaf for pair in own.free.values() for leaf in pair]
    bound = Trace(model, own, cells=math.inf, particles=particles)
    optimizer = torch.optim.Adam(leaves, learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(steps):
        optimizer.zero_grad()
        (-bound.per_cell(**batch).sum()).backward(inputs=leaves)
        optimizer.step(), decay.step()


@torch.no_grad()
def _bound(model: nn.Module, q: nn.Module, batch: Batch, draws: int, seed: int) -> Tensor:
    """The evidence lower bound of each cell, (N,): the mean over `draws`, which come in chunks."""
    total = 0.0
    with seeded(seed):
        for chunk in torch.arange(draws).split(max(1, ENTRIES // batch["x"].numel())):
            bound = Trace(model, q, cells=math.inf, particles=len(chunk))
            total = total + bound.per_cell(**batch) * len(chunk)
    return total / draws


@torch.no_grad()
def shared_sites(guide: nn.Module, batch: Batch) -> PyroTrace:
    """One draw of the sites that all cells share."""
    shared = PyroTrace()
    with poutine.trace() as guided:
        call(guide, batch)
    for site in sample_sites(guided.trace):
        if not within_cells(site):
            shared.add_node(site["name"], **site)
    return shared


@torch.no_grad()
def cell_sites(model: nn.Module, guide: nn.Module, batch: Batch) -> dict[str, dict]:
    """The guide's site of each latent of a cell, in the model's order."""
    guide_trace, model_trace = traces(model, guide, batch)
    sites = (site for site in sample_sites(model_trace) if within_cells(site))
    latents = [site for site in sites if not site["is_observed"]]
    for site in latents:
        if site["fn"].support.is_discrete:
            raise DiscreteLatent(
                f"amortisation_gap at site '{site['name']}': got a discrete latent, and only "
                "continuous ones can be refined. Sum it out in the model."
            )
    return {site["name"]: guide_trace.nodes[site["name"]] for site in latents}


@contextmanager
def evaluating(*halves: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block, and each module's own mode after it."""
    modes = [(module, module.training) for half in halves for module in half.modules()]
    for half in halves:
        half.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
