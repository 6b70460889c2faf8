"""Prior and posterior predictive draws and expected counts of any story, by its sites alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from torch import Tensor, nn

from .inference import call, seeded
from .inference.tracing import Batch, sample_sites, within_cells

SEED = 20_240_501  # the noise of every evaluation: the same for all runs


def withheld(batches: Iterable[Batch]) -> Iterator[dict[str, Tensor]]:
    """The same minibatches without labels and targets, as used for evaluation and embedding."""
    for batch in batches:
        library = batch["library"]
        label = torch.full_like(library[:, 0], -1, dtype=torch.int64)
        yield {**batch, "label": label, "target": torch.full_like(library, math.nan)}


@torch.no_grad()
def draw_prior(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Counts x ~ p(x | library, ...), (N, G): a new cell per cell given, latents of the prior."""
    model.eval()
    return torch.cat([_drawn(model, batch) for batch in batches])


def _drawn(model: nn.Module, batch: Batch) -> Tensor:
    """Draw given the latents that the batch observes: site `log_library`, and `y` by its label."""
    observed = {"log_library": batch["library"].log()}
    if "label" in batch and (batch["label"] >= 0).all():
        observed["y"] = batch["label"]
    with poutine.condition(data=observed):
        return call(model, _without_counts(batch))


@torch.no_grad()
def draw_posterior(model: nn.Module, guide: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """Counts x ~ p(x | z, library, ...) with z ~ q(z | x): posterior predictive draws, (N, G)."""
    model.eval(), guide.eval()
    drawn = (_sites(model, _latents(guide, batch), batch)["x"]["value"] for batch in batches)
    return torch.cat([*drawn])


@torch.no_grad()
def predict(
    model: nn.Module, guide: nn.Module, observed: Batch, query: Batch
) -> TorchDistribution:
    """p(x | z, library of `query`) at one draw z ~ q(z | `observed`), event shape (G,)."""
    model.eval(), guide.eval()
    latents = _latents(guide, observed)
    _at_library(latents, query)
    with torch.random.fork_rng():  # counts drawn here must not advance the caller's random state
        return _sites(model, latents, query)["x"]["fn"]


@torch.no_grad()
def normalized_expression(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    library: float = 1.0,
    draws: int = 25,
    at: Batch | None = None,
) -> Tensor:
    """The posterior mean of expected counts at a common `library`, (N, G), over draws of z.

    States are inferred from the batches as they are. `at` replaces entries of the model's call,
    such as the condition, with a row for each `index` of the batches.
    """
    model.eval(), guide.eval()
    with seeded(SEED):
        parts = ((batch, _set_to(batch, library, at or {})) for batch in batches)
        return torch.cat([_expected(model, guide, *part, draws) for part in parts])


@torch.no_grad()
def draw_states(
    model: nn.Module, guide: nn.Module, batches: Iterable[Batch], draws: int
) -> Tensor:
    """Draws of each cell's continuous latents, joined, (S, N, D), without `nuisance` ones."""
    model.eval(), guide.eval()
    with seeded(SEED):
        drawn = [[_state(model, guide, batch) for _ in range(draws)] for batch in batches]
    return torch.cat([torch.stack(each) for each in drawn], 1)


def _state(model: nn.Module, guide: nn.Module, batch: Batch) -> Tensor:
    nuisance = getattr(model, "nuisance", ())
    sites = (site for site in sample_sites(_latents(guide, batch)) if within_cells(site))
    kept = [s for s in sites if s["name"] not in nuisance and not s["fn"].support.is_discrete]
    return torch.cat([site["value"] for site in kept], -1)


def _set_to(batch: Batch, library: float, at: Batch) -> Batch:
    entries = {key: value[batch["index"]] for key, value in at.items() if key in batch}
    return {**batch, **entries, "library": torch.full_like(batch["library"], library)}


def _expected(model: nn.Module, guide: nn.Module, batch: Batch, at: Batch, draws: int) -> Tensor:
    latents = [_latents(guide, batch) for _ in range(draws)]  # the same ones at every library
    for trace in latents:
        _at_library(trace, at)
    with torch.random.fork_rng():  # counts drawn here must not change the next cells' latents
        means = [_sites(model, trace, at)["x"]["fn"].mean for trace in latents]
    return torch.stack(means).mean(0)


def _at_library(latents: Trace, at: Batch) -> None:
    """Where the library is inferred, take that of `at` in its place."""
    if "log_library" in latents.nodes:
        latents.nodes["log_library"]["value"] = at["library"].log()


def _latents(guide: nn.Module, batch: Batch) -> Trace:
    """One draw of the guide's sites."""
    with poutine.trace() as guided:
        call(guide, batch)
    return guided.trace


def _sites(model: nn.Module, latents: Trace, batch: Batch) -> Mapping[str, Any]:
    """Sites of the model run without counts at these latents."""
    with poutine.trace() as recorded, poutine.replay(trace=latents):
        call(model, _without_counts(batch))
    return recorded.trace.nodes


def _without_counts(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "x"}
