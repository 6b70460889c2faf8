"""Sites of a guide: the latents of cells, and those that all cells share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import nn

from ...inference import call, seeded
from ...inference.tracing import sample_sites, trace, traces, within_cells
from ...predict import SEED, Batch


class DiscreteLatent(ValueError):
    """A discrete latent of cells, which has no gradient to refine it by."""


def no_states(model: nn.Module) -> ValueError:
    """The error for a story without a latent state of cells."""
    return ValueError(
        f"requires a latent state of cells: {type(model).__name__} has none. Check its counts "
        "instead."
    )


@torch.no_grad()
def has_states(model: nn.Module, guide: nn.Module, batch: Batch) -> bool:
    """Whether a guide has a continuous latent of cells that the model does not call a nuisance.

    Parameters
    ----------
    model, guide
        A fitted pair.
    batch
        Any minibatch.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> has_states(*pair, {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)})
    True
    """
    nuisance = getattr(model, "nuisance", ())
    with evaluating(guide), seeded(SEED):
        sites = [site for site in sample_sites(trace(guide, batch)) if within_cells(site)]
    return any(s["name"] not in nuisance and not s["fn"].support.is_discrete for s in sites)


@torch.no_grad()
def shared_sites(guide: nn.Module, batch: Batch) -> Trace:
    """Trace of one draw of the sites that all cells share."""
    shared = Trace()
    with poutine.trace() as guided:
        call(guide, batch)
    for site in sample_sites(guided.trace):
        if not within_cells(site):
            shared.add_node(site["name"], **site)
    return shared


@torch.no_grad()
def cell_sites(model: nn.Module, guide: nn.Module, batch: Batch) -> dict[str, Any]:
    """The guide's site of each latent of cells, in the model's order.

    ValueError for a discrete latent, and for a story without a latent state of cells.
    """
    guide_trace, model_trace = traces(model, guide, batch)
    sites = (site for site in sample_sites(model_trace) if within_cells(site))
    latents = [site for site in sites if not site["is_observed"]]
    for site in latents:
        if site["fn"].support.is_discrete:
            raise DiscreteLatent(
                f"posteriors at site '{site['name']}': got a discrete latent, and only continuous "
                "ones can be refined or sampled. Sum it out in the model."
            )
    if not latents:
        raise no_states(model)
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
