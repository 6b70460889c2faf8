"""Counts and expression that a fitted story expects or draws; any story, by its sites alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from pyro import poutine
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
    return torch.cat([_replayed(model, guide, batch)["x"]["value"] for batch in batches])


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
    means = [_replayed(model, guide, batch, at)["x"]["fn"].mean for _ in range(draws)]
    return torch.stack(means).mean(0)


def _replayed(
    model: nn.Module, guide: nn.Module, batch: Batch, at: Batch | None = None
) -> Mapping[str, dict]:
    """Sites of the model run without counts at latents drawn from the guide given `batch`."""
    with poutine.trace() as guided:
        call(guide, batch)
    if at is not None and "log_library" in guided.trace.nodes:
        guided.trace.nodes["log_library"]["value"] = at["library"].log()
    with poutine.trace() as recorded, poutine.replay(trace=guided.trace):
        call(model, _without_counts(at or batch))
    return recorded.trace.nodes


def _without_counts(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "x"}
