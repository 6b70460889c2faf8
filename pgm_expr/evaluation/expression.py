"""Counts and expression that a fitted story expects or draws; any story, by its sites alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from ..inference import call, seeded
from .heldout import SEED

Batch = Mapping[str, Tensor]


@torch.no_grad()
def draw_prior(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Counts x ~ p(x | library, ...), latents from the prior, one cell for each given, (N, G)."""
    model.eval()
    return torch.cat([_drawn(model, batch) for batch in batches])


def _drawn(model: nn.Module, batch: Batch) -> Tensor:
    """A latent library, where a story has one, is the batch's: a site called `log_library`."""
    with poutine.condition(data={"log_library": batch["library"].log()}):
        return call(model, _without_counts(batch))


@torch.no_grad()
def draw_posterior(model: nn.Module, guide: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Counts x ~ p(x | z, library, ...) with z ~ q(z | x): posterior predictive draws, (N, G)."""
    model.eval(), guide.eval()
    drawn = (_sites(model, _latents(guide, batch), batch)["x"]["value"] for batch in batches)
    return torch.cat([*drawn])


@torch.no_grad()
def normalized_expression(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    library: float = 1.0,
    draws: int = 25,
) -> Tensor:
    """The posterior mean of expected counts at a common `library`, (N, G), over draws of z."""
    model.eval(), guide.eval()
    with seeded(SEED):
        return torch.cat([_expected(model, guide, batch, library, draws) for batch in batches])


def _expected(
    model: nn.Module, guide: nn.Module, batch: Batch, library: float, draws: int
) -> Tensor:
    at = dict(batch) | {"library": torch.full_like(batch["library"], library)}
    latents = [_latents(guide, batch) for _ in range(draws)]  # the same ones at every library
    for trace in latents:
        if "log_library" in trace.nodes:
            trace.nodes["log_library"]["value"] = at["library"].log()
    with torch.random.fork_rng():  # counts drawn on the way must not move the next cells' latents
        means = [_sites(model, trace, at)["x"]["fn"].mean for trace in latents]
    return torch.stack(means).mean(0)


def _latents(guide: nn.Module, batch: Batch) -> Trace:
    """One draw of the guide's sites."""
    with poutine.trace() as guided:
        call(guide, batch)
    return guided.trace


def _sites(model: nn.Module, latents: Trace, batch: Batch) -> Mapping[str, dict]:
    """Sites of the model run without counts at these latents."""
    with poutine.trace() as recorded, poutine.replay(trace=latents):
        call(model, _without_counts(batch))
    return recorded.trace.nodes


def _without_counts(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "x"}
