r"""Objectives: what SVI maximises, as modules over a (model, guide) pair.

Every objective is two numbers of the same traces, in nats per cell:

    objective.per_cell(**batch)  (N,)  the bound itself, higher is better, never modified
    objective(**batch)           ()    the scalar to minimise: minus the mean over cells of the
                                       bound, with the modifiers `temper` and `free_bits`

A cell's log weight splits into what is observed and what each latent site costs:

    log w_n = log p(x_n | z_n) - sum_sites (log q(z_n) - log p(z_n))

Sites outside the plate `cells` are shared by all cells and particles: drawn once a step, their
log p - log q enters once, divided by the number of cells. (One draw a particle is no bound.)
Held-out cells pay nothing for them: judging sets `cells` to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from pyro.poutine import Trace as PyroTrace
from torch import Tensor, nn

from . import lint, tracing
from .tracing import NoClosedForm, kl_by_dimension, log_prob, sample_sites, within_cells


class Draw(NamedTuple):
    """One joint draw of the guide, seen by both halves."""

    observed: dict[str, Tensor]  # (S, N) log p of each observed site, (K, S, N) if enumerated
    latents: list[tuple[dict, dict]]  # (guide's site, model's site) of each latent of a cell
    shared: Tensor  # () log p - log q of the sites that all cells share
    branches: Tensor | None = None  # (K, S, N) log q of an enumerated site's values

    def expected(self, value: Tensor, dims: int = 2) -> Tensor:
        """The mean over the values of the enumerated site; `dims` is what is left without them."""
        if value.dim() == dims:
            return value
        weights = self.branches.exp()
        return (weights.view(*weights.shape, *(dims - 2) * [1]) * value).sum(0)


def whole(text: str) -> int:
    """A number of particles, as written in an objective's name."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"a number of particles is whole and at least 1: got '{text}'.")
    return int(text)


class Objective(nn.Module):
    """What the objectives share: tracing, modifiers, and the average over cells.

    `cells` is the size of the training set. `beta` and `floor` are 0-dim tensors, written in
    place, so that a captured step sees their changes. `numbers` says how the numbers in an
    objective's name (`iwae-10`) are read.
    """

    numbers: ClassVar[Mapping[str, Callable[[str], float]]] = {"particles": whole}

    def __init__(
        self, model: nn.Module, guide: nn.Module, *, cells: float, particles: int = 1
    ) -> None:
        super().__init__()
        self.model, self.guide, self.particles = model, guide, particles
        for name, value in {"cells": cells, "beta": 1.0, "floor": -math.inf}.items():
            self.register_buffer(name, torch.tensor(float(value)), persistent=False)
        self.training = model.training  # judging a trained pair does not switch dropout on

    def temper(self, beta: float) -> Self:
        """Weigh the latent sites of each cell by beta (beta-VAE, KL warm-up); returns itself."""
        self.beta.fill_(beta)
        return self

    def free_bits(self, nats: float) -> Self:
        """Cost each latent dimension at least `nats`, averaged over the batch; returns itself.

        By dimension where the KL is taken in closed form, else by site. It is no guarantee: below
        `nats` a dimension has no gradient, so weight decay may still shrink it, and what dropout
        left at the floor in training may lie under it when judged.
        Kingma et al., NeurIPS 2016, https://arxiv.org/abs/1606.04934
        """
        self.floor.fill_(nats or -math.inf)  # a sampled cost may be negative
        return self

    def weight(self, site: str, value: float) -> Self:
        """Weigh an observed site of each cell, such as a label, in the loss; returns itself.

        At 0 it might as well not be there: the counts alone are learned from.
        """
        self.register_buffer(f"weight_{site}", torch.tensor(float(value)), persistent=False)
        return self

    def forward(self, **batch: Tensor) -> Tensor:
        draw = self.draw(batch)
        costs = sum(self._floored(draw.expected(cost, 3)) for cost in self.costs(draw))
        return self.beta * costs - draw.expected(self.weighed(draw)).mean() - draw.shared

    def per_cell(self, **batch: Tensor) -> Tensor:
        """The bound for each cell of the batch, (N,), in nats; unmodified."""
        draw = self.draw(batch)
        costs = sum(draw.expected(cost, 3).sum(-1) for cost in self.costs(draw))
        return (draw.expected(sum(draw.observed.values())) - costs).mean(0) + draw.shared

    def weighed(self, draw: Draw) -> Tensor:
        """log p of all that is observed, each site by its weight: (S, N) or (K, S, N)."""
        return sum(getattr(self, f"weight_{site}", 1.0) * p for site, p in draw.observed.items())

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """log q - log p of each latent site at the draw, (S, N, 1), or (K, S, N, 1)."""
        return (self._sampled(*pair) for pair in draw.latents)

    def _sampled(self, guide_site: dict, model_site: dict) -> Tensor:
        return self.rows(log_prob(guide_site) - log_prob(model_site)).unsqueeze(-1)

    def rows(self, value: Tensor, event: int = 0) -> Tensor:
        """One row a particle, where nothing is enumerated."""
        cells = value.shape[value.dim() - event - 1 :]
        return value if value.dim() > 2 + event else value.reshape(self.particles, *cells)

    def _floored(self, cost: Tensor) -> Tensor:
        return torch.maximum(cost.mean((0, 1)), self.floor).sum()

    def draw(self, batch: Mapping[str, Tensor]) -> Draw:
        """Trace guide and model on one minibatch: a dict whose keys are argument names."""
        return self.split(*self.traces(batch))

    def split(self, guide_trace: PyroTrace, model_trace: PyroTrace) -> Draw:
        """The terms of the objectives, from the traces of both halves."""
        latents, observed, shared = [], {}, torch.zeros_like(self.beta)
        for site in sample_sites(guide_trace):
            if not within_cells(site):  # also the auxiliary ones of Pyro's AutoGuides
                shared = shared - log_prob(site).sum()
        for site in sample_sites(model_trace):
            if not within_cells(site):
                shared = shared + log_prob(site).sum()
            elif site["is_observed"]:
                observed[site["name"]] = self.rows(log_prob(site))
            else:
                latents.append((guide_trace.nodes[site["name"]], site))
        listed = [site for site, _ in latents if site["infer"].get("_enumerate_dim")]
        branches = log_prob(listed[0]) if listed else None
        return Draw(observed, latents, shared / self.cells, branches)

    def traces(self, batch: Mapping[str, Tensor]) -> tuple[PyroTrace, PyroTrace]:
        """The guide's trace and the model's, replayed at the guide's draws."""
        return tracing.traces(self.model, self.guide, batch, self.particles)

    def check(self, batch: Mapping[str, Tensor]) -> None:
        """Run once with Pyro's validation on: supports, plates, shapes, names; see `lint`.

        Raises ValueError naming file, line, half and site of what is wrong.
        """
        lint.check(self, batch)


class Trace(Objective):
    r"""The evidence lower bound by sampling: mean over S draws of log w.

    Hoffman et al., Stochastic Variational Inference, JMLR 2013, https://arxiv.org/abs/1206.7051
    """


class ELBO(Objective):
    r"""The evidence lower bound, each KL in closed form where there is one, else by sampling.

        E_q[log p(x | z)] - sum_d KL(q(z_d) || p(z_d))

    The usual objective of a story: it holds for any prior and guide.
    Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114
    """

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """KL(q || p) or log q - log p of each latent site: (S, N, D) or (S, N, 1)."""
        for pair in draw.latents:
            try:
                yield self._closed(*pair)
            except NoClosedForm:
                yield self._sampled(*pair)

    def _closed(self, guide_site: dict, model_site: dict) -> Tensor:
        return self.rows(kl_by_dimension(guide_site, model_site), event=1)


class MeanField(ELBO):
    """`ELBO` in closed form or not at all: ValueError names the pair without a known KL.

    For guides whose sites stand in the model's order.
    """

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """KL(q || p) of each latent site, (S, N, D)."""
        return (self._closed(*pair) for pair in draw.latents)
