r"""The sleep phase: recalibrate a guide on simulated cells; the model does not change.

    z*, x* ~ p(z, x | library, ...),    maximise E[log q(z* | x*)]    over the guide alone

Training by a bound minimises KL(q || p), which makes q too narrow, and too few cells make it
wrong away from them. The supply of simulated cells is unlimited, so the guide cannot overfit
(dropout is off), and KL(p || q) is minimised: q covers the posterior, on average over the cells
of the model. The evidence of data under the model stays the same; only inference changes. Where
simulated cells differ from real ones, real cells gain less or lose: compare the bounds.

Hinton, Dayan, Frey and Neal, Science 1995, https://doi.org/10.1126/science.7761831
Le, Baydin and Wood, Inference Compilation, AISTATS 2017, https://arxiv.org/abs/1610.09900
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from .rng import seeded
from .tracing import Batch, log_prob, sample_sites, total, trace, within_cells


def sleep(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    *,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Iterator[float]:
    """Recalibrate a guide in place on cells that its model simulates.

    Sites that all cells share are drawn from the guide at each step and held. Only parameters
    that the guide itself owns are trained. Model and guide end in evaluation mode.

    Parameters
    ----------
    model, guide
        A trained pair.
    batches
        Minibatches of real cells. Each gives libraries and metadata to as many simulated cells;
        its counts are not trained on.
    steps
        Number of steps of Adam; fewer if `batches` ends before.
    learning_rate
        Its first learning rate, which falls to 0 along a cosine.
    seed
        Seed of the simulated cells.

    Yields
    ------
    float
        The loss of each step, -mean log q(z* | x*), in nats per cell.

    Raises
    ------
    ValueError
        If the model's prior is made of the guide's posteriors (`vamp`) and would change with them.

    References
    ----------
    Hinton, Dayan, Frey and Neal, Science 1995, https://doi.org/10.1126/science.7761831
    Le, Baydin and Wood, AISTATS 2017, https://arxiv.org/abs/1610.09900

    Examples
    --------
    >>> import torch
    >>> from itertools import repeat
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import sleep
    >>> from pgm_expr.models import VAE
    >>> _ = torch.manual_seed(0)
    >>> model, guide = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> batch = {"x": torch.full((64, 5), 4.0), "library": torch.full((64, 1), 20.0)}
    >>> losses = list(sleep(model, guide, repeat(batch), steps=30, learning_rate=1e-2))
    >>> losses[-1] < losses[0]
    True
    """
    model.eval(), guide.eval()
    parameters = [p for p in guide.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"sleep requires a guide with parameters: {type(guide).__name__} has none."
        )
    optimizer = torch.optim.Adam(parameters, learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, batch in zip(range(steps), batches, strict=False):
        with seeded(seed * 1_000_003 + step), pyro.validation_enabled(step == 0):
            if step == 0:
                _refuse_borrowed(model, parameters, batch)
            loss = -_log_q(model, guide, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        yield loss.item()


def _log_q(model: nn.Module, guide: nn.Module, batch: Batch) -> Tensor:
    """log q of the true states of simulated cells, (N,)."""
    with torch.no_grad(), poutine.block():
        shared = _shared(trace(guide, batch))
        truth = trace(model, _without_counts(batch), at=shared)
    simulated: Any = truth.nodes["x"]["value"]
    guided = trace(guide, {**batch, "x": simulated}, at=truth)
    return total(log_prob(site) for site in sample_sites(guided) if within_cells(site))


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
    """ValueError where the model depends on parameters that are about to be trained."""
    drawn = trace(model, _without_counts(batch))
    joint = total(log_prob(site).sum() for site in sample_sites(drawn))
    gradients: Sequence[Tensor | None] = []
    if joint.requires_grad:
        gradients = torch.autograd.grad(joint, parameters, allow_unused=True)
    if any(gradient is not None for gradient in gradients):
        raise ValueError(
            f"sleep would move the prior of {type(model).__name__}, which is made of the guide's "
            "posteriors. Choose another prior."
        )
