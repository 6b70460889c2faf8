"""Traces of a (model, guide) pair, from which the objectives are computed.

A minibatch is a plain dict whose keys are argument names. Sites inside the plate `cells` belong to
one cell each; sites outside it are shared by all cells.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import pyro
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.distributions.util import scale_and_mask
from pyro.nn import PyroModule, PyroSample
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import Independent, kl_divergence

if TYPE_CHECKING:
    from pyro.poutine.runtime import Message

Batch = Mapping[str, Tensor]  # a minibatch: its keys are argument names of model and guide
Site = dict[str, Any]  # a random variable of a trace: its "name", "fn", "value", ...

CELLS = "cells"
VALUES = -3  # dim of an enumerated site's values, left of particles and cells


class NoClosedForm(ValueError):
    """A pair of distributions without a known KL divergence."""


class NotInBatch(ValueError):
    """A required argument of a model or guide that the minibatch does not contain."""


def traces(
    model: nn.Module, guide: nn.Module, batch: Batch, particles: int = 1
) -> tuple[Trace, Trace]:
    """The guide's trace and the model's, replayed at the guide's draws.

    A site that the guide marks `infer={"enumerate": "parallel"}` takes all its K values at once,
    at dim -3: what depends on it is (K, S, N).
    """
    guided = trace(guide, batch, particles, enumerate=True)
    return guided, trace(model, batch, particles, at=guided)


def trace(
    half: nn.Module,
    batch: Batch,
    particles: int = 1,
    at: Trace | None = None,
    enumerate: bool = False,
) -> Trace:
    """The trace of a model or guide, replayed at the draws of another trace."""
    replayed = poutine.replay(trace=at) if at else nullcontext()
    each = poutine.enum(first_available_dim=VALUES) if enumerate else nullcontext()
    with poutine.trace() as recorded, replayed, each, _Particles(particles):
        call(half, batch)
    return recorded.trace


def call(half: nn.Module, batch: Batch) -> Any:
    """Call a model or guide with the entries of a minibatch that its signature names.

    Parameters
    ----------
    half
        A model or guide.
    batch
        A minibatch; entries that `half` does not name are dropped.

    Returns
    -------
    What `half` returns: a model returns its draw of the counts, (N, G).

    Raises
    ------
    NotInBatch
        If the minibatch lacks an argument without default. It is a ValueError.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.models import VAE
    >>> batch = {"library": torch.full((8, 1), 100.0), "index": torch.arange(8)}
    >>> call(VAE(genes=5, latent=2), batch).shape
    torch.Size([8, 5])
    """
    named, required = _arguments(type(half).forward)
    missing = [name for name in required if name not in batch]
    if missing:
        raise NotInBatch(
            f"{type(half).__name__} needs {', '.join(missing)}: the minibatch holds "
            f"{', '.join(batch)}. Name the matching column when fitting."
        )
    with pyro.get_param_store().scope():  # our parameters are the modules': none stays there
        return _callable(half)(**{name: batch[name] for name in named if name in batch})


def _callable(half: nn.Module) -> Callable[..., Tensor | None]:
    """A half as a plain module, unless some of its attributes are random variables.

    At each access to an attribute Pyro sends a message for every parameter in it, for its own
    optimizers. The engine reads none of them, and they would cost a tenth of a step.
    """
    plain = isinstance(half, PyroModule) and not _random(half)
    return partial(nn.Module.__call__, half) if plain else half


def _random(half: PyroModule) -> bool:
    """Whether an attribute of a half, or of a PyroModule in it, is a `PyroSample`."""
    inner = (m for m in half._modules.values() if isinstance(m, PyroModule))
    return bool(half._pyro_samples) or _declares(type(half)) or any(map(_random, inner))


@cache
def _declares(owner: type) -> bool:
    """Whether a class has a method that is decorated as a `PyroSample`."""
    return any(isinstance(v, PyroSample) for base in owner.__mro__ for v in vars(base).values())


@cache
def _arguments(forward: Callable) -> tuple[list[str], list[str]]:
    """Names of a method's arguments, and of those without a default."""
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in parameters], [p.name for p in parameters if p.default is p.empty]


class _Particles(pyro.plate):
    """S particles of every latent of a cell, at dim -2; shared sites have one."""

    def __init__(self, particles: int) -> None:
        super().__init__("particles", particles, dim=-2)

    def _process_message(self, msg: Message) -> None:
        if self.size > 1 and within_cells(msg):
            super()._process_message(msg)


def within_cells(site: Mapping[str, Any]) -> bool:
    """Whether a site is inside the plate of cells; otherwise all cells share it."""
    return any(frame.name == CELLS for frame in site.get("cond_indep_stack", ()))


def is_enumerated(site: Mapping[str, Any]) -> bool:
    """Whether a guide's site is enumerated in parallel."""
    return site["infer"].get("enumerate") == "parallel"


def sample_sites(trace: Trace) -> Iterable[Site]:
    """The random variables of a trace, observed ones included, in order."""
    nodes: Mapping[str, Any] = trace.nodes
    for site in nodes.values():
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site):
            yield site


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape; the number 0 if there are none."""
    return cast("Tensor", sum(terms))


def log_prob(site: Mapping[str, Any]) -> Tensor:
    """Unscaled log-probability of a site's value over its batch shape; 0 where masked."""
    return scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])


def kl_by_dimension(guide_site: Mapping[str, Any], model_site: Mapping[str, Any]) -> Tensor:
    """KL(q || p) of a site, (..., N, D), or (..., N, 1) if its dimensions are dependent.

    0 where masked. Raises `NoClosedForm` for a pair of distributions without a known divergence.
    """
    mask = None if guide_site["mask"] is None else guide_site["mask"].unsqueeze(-1)
    try:
        return scale_and_mask(_kl(guide_site["fn"], model_site["fn"]), mask=mask)
    except NotImplementedError:
        both = guide_site["fn"], model_site["fn"]
        pair = " to ".join(type(getattr(d, "base_dist", d)).__name__ for d in both)
        raise NoClosedForm(
            f"MeanField at site '{guide_site['name']}': no closed-form KL of {pair}. Use Trace."
        ) from None


def _kl(q: TorchDistribution, p: TorchDistribution) -> Tensor:
    vectors = isinstance(q, Independent) and isinstance(p, Independent)
    if vectors and q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims == 1:
        return kl_divergence(q.base_dist, p.base_dist)
    return kl_divergence(q, p).unsqueeze(-1)
