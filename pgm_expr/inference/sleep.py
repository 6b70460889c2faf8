r"""The sleep phase: a guide learns from cells that the story itself draws.

    z*, x* ~ p(z, x | library, ...),    maximise E[log q(z* | x*)]    over the guide alone

Training by a bound minimises KL(q || p), and a guide so trained is narrow, and wrong off the few
cells it has seen. Here the cells never end, so nothing is learnt by heart (dropout is off), and
KL(p || q) is minimised: q covers what the posterior covers, on average over the story's cells. The
model stays as it is, so whatever it says of data stays as it is; only inference changes. Where the
story draws cells that real ones are not like, real cells gain less, or lose: compare the bounds.

Hinton, Dayan, Frey and Neal, Science 1995, https://doi.org/10.1126/science.7761831
Le, Baydin and Wood, Inference Compilation, AISTATS 2017, https://arxiv.org/abs/1610.09900
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from .noise import seeded
from .tracing import Batch, log_prob, sample_sites, trace, within_cells


def sleep(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    *,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Iterator[float]:
    """Train a guide in place for `steps` steps of Adam; yields -mean log q(z* | x*), nats.

    Each minibatch lends libraries and metadata to as many drawn cells; its counts are not looked
    at. The rate falls to 0 along a cosine. Sites that all cells share are drawn from the guide at
    each step and held. Only parameters that the guide itself owns move. Both halves end in
    evaluation mode.

    ValueError where the story's prior is made of the guide (`vamp`): it would move along.
    """
    model.eval(), guide.eval()
    parameters = [p for p in guide.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, batch in zip(range(steps), batches, strict=False):
        with seeded(seed * 1_000_003 + step), pyro.validation_enabled(step == 0):
            if step == 0:
                _refuse_borrowed(model, parameters, batch)
            loss = -_log_q(model, guide, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(), decay.step()
        yield loss.item()


def _log_q(model: nn.Module, guide: nn.Module, batch: Batch) -> Tensor:
    """log q of the true states of drawn cells, (N,)."""
    with torch.no_grad(), poutine.block():
        shared = _shared(trace(guide, batch))
        truth = trace(model, _without_counts(batch), at=shared)
    seen = {**batch, "x": truth.nodes["x"]["value"]}
    guided = trace(guide, seen, at=truth)
    return sum(log_prob(site) for site in sample_sites(guided) if within_cells(site))


def _shared(guided: Trace) -> Trace:
    """The sites of a trace that all cells share."""
    shared = Trace()
    for site in sample_sites(guided):
        if not within_cells(site):
            shared.add_node(site["name"], **site)
    return shared


def _without_counts(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "x"}


def _refuse_borrowed(model: nn.Module, parameters: list[nn.Parameter], batch: Batch) -> None:
    """The story must not depend on what is about to move."""
    drawn = trace(model, _without_counts(batch))
    total = sum(log_prob(site).sum() for site in sample_sites(drawn))
    gradients = [None]
    if total.requires_grad:
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    if any(gradient is not None for gradient in gradients):
        raise ValueError(
            f"sleep would move the prior of {type(model).__name__}, which is made of the guide's "
            "posteriors. Choose another prior."
        )
