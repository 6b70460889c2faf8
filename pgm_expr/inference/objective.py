r"""Objectives: what stochastic variational inference maximises, as modules over (model, guide).

Every objective gives two values from the same traces, in nats per cell:

    objective.per_cell(**batch)  (N,)  the bound itself: higher is better, never modified
    objective(**batch)           ()    the loss: minus the mean over cells of the bound, with the
                                       modifiers `temper`, `free_bits` and `weight`

A cell's log weight splits into the observed sites and the cost of each latent site:

    log w_n = log p(x_n | z_n) - sum_sites (log q(z_n) - log p(z_n))

Sites outside the plate `cells` are shared by all cells and particles: they are drawn once a step,
and their log p - log q enters once, divided by the number of cells. (One draw per particle would
not give a bound.) For held-out cells this term is left out: set `cells` to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pyro.poutine import Trace as PyroTrace
from torch import Tensor, nn

from . import tracing
from .tracing import (
    Batch,
    NoClosedForm,
    Site,
    kl_by_dimension,
    log_prob,
    sample_sites,
    total,
    within_cells,
)


class Draw(NamedTuple):
    """One joint draw of the guide, scored by model and guide."""

    observed: dict[str, Tensor]  # (S, N) log p of each observed site, (K, S, N) if enumerated
    latents: list[tuple[Site, Site]]  # (guide's site, model's site) of each latent of a cell
    shared: Tensor  # () log p - log q of the sites that all cells share
    branches: Tensor | None = None  # (K, S, N) log q of an enumerated site's values

    def expected(self, value: Tensor, dims: int = 2) -> Tensor:
        """The mean over the values of the enumerated site, with `dims` dimensions left."""
        if self.branches is None or value.dim() == dims:
            return value
        weights = self.branches.exp()
        return (weights.view(*weights.shape, *(dims - 2) * [1]) * value).sum(0)


def particle_count(text: str) -> int:
    """Parse a number of particles in an objective's name."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"the number of particles must be a whole number from 1: got '{text}'.")
    return int(text)


class Objective(nn.Module):
    """Base class of the objectives: tracing, modifiers, and the average over cells.

    `objective(**batch)` is the loss, a scalar in nats per cell.

    Parameters
    ----------
    model, guide
        A pair of modules with one signature; its argument names are the keys of a minibatch.
    cells
        Size of the training set, by which the terms of sites shared by all cells are divided.
        Infinity leaves them out, as for held-out cells.
    particles
        Number S of draws from the guide for each cell.

    Attributes
    ----------
    beta, floor
        0-dim tensors that `temper` and `free_bits` write in place, so that a captured step
        follows their changes.
    numbers
        How the numbers in an objective's name, such as `iwae-10`, are parsed.

    Examples
    --------
    A new objective overrides `costs`, `forward` or `per_cell`. This one ignores the prior:

    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> class Reconstruction(Objective):
    ...     def costs(self, draw):
    ...         return (0 * cost for cost in super().costs(draw))
    >>> objective = Reconstruction(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=8)
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> objective(**batch).shape, objective.per_cell(**batch).shape
    (torch.Size([]), torch.Size([8]))
    """

    numbers: ClassVar[Mapping[str, Callable[[str], float]]] = {"particles": particle_count}
    cells: Tensor
    beta: Tensor
    floor: Tensor

    def __init__(
        self, model: nn.Module, guide: nn.Module, *, cells: float, particles: int = 1
    ) -> None:
        super().__init__()
        self.model, self.guide, self.particles = model, guide, particles
        for name, value in {"cells": cells, "beta": 1.0, "floor": -math.inf}.items():
            self.register_buffer(name, torch.tensor(float(value)), persistent=False)
        self.training = model.training  # evaluating a trained pair does not switch dropout on

    def temper(self, beta: float) -> Self:
        """Multiply the cost of each cell's latent sites by beta in the loss.

        Parameters
        ----------
        beta
            1 is the bound; below 1 during KL warm-up, any value for a beta-VAE.

        Returns
        -------
        The objective itself.
        """
        self.beta.fill_(beta)
        return self

    def free_bits(self, nats: float) -> Self:
        """Let each latent dimension cost at least `nats`, averaged over the minibatch.

        By dimension where the KL has a closed form, otherwise by site. It does not guarantee that
        much information: below `nats` a dimension has no gradient, so weight decay can still
        shrink it, and a KL at the floor under dropout can be below it in evaluation mode.

        Parameters
        ----------
        nats
            The floor; 0 removes it.

        Returns
        -------
        The objective itself.

        References
        ----------
        Kingma et al., NeurIPS 2016, https://arxiv.org/abs/1606.04934
        """
        self.floor.fill_(nats or -math.inf)  # a sampled cost can be negative
        return self

    def weight(self, site: str, value: float) -> Self:
        """Multiply the log-probability of one observed site, such as a label, in the loss.

        Parameters
        ----------
        site
            Name of an observed site of the model, inside the plate of cells.
        value
            Its weight; 0 trains on the other sites alone.

        Returns
        -------
        The objective itself.
        """
        self.register_buffer(f"weight_{site}", torch.tensor(float(value)), persistent=False)
        return self

    def forward(self, **batch: Tensor) -> Tensor:
        draw = self.draw(batch)
        averages = (draw.expected(cost, 3).mean((0, 1)) for cost in self.costs(draw))
        costs = total(torch.maximum(average, self.floor).sum() for average in averages)
        return self.beta * costs - draw.expected(self.weighted(draw)).mean() - draw.shared

    def per_cell(self, **batch: Tensor) -> Tensor:
        """The bound of each cell of a minibatch, without modifiers.

        Parameters
        ----------
        **batch
            The entries of a minibatch, by argument name.

        Returns
        -------
        Tensor
            Nats, (N,).
        """
        draw = self.draw(batch)
        costs = total(draw.expected(cost, 3).sum(-1) for cost in self.costs(draw))
        return (draw.expected(total(draw.observed.values())) - costs).mean(0) + draw.shared

    def weighted(self, draw: Draw) -> Tensor:
        """log p of all observed sites, each times its weight: (S, N) or (K, S, N)."""
        return total(getattr(self, f"weight_{site}", 1.0) * p for site, p in draw.observed.items())

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """log q - log p of each latent site at the draw, (S, N, 1) or (K, S, N, 1)."""
        return (self._sampled(*pair) for pair in draw.latents)

    def _sampled(self, guide_site: Site, model_site: Site) -> Tensor:
        return self.rows(log_prob(guide_site) - log_prob(model_site)).unsqueeze(-1)

    def rows(self, value: Tensor, event: int = 0) -> Tensor:
        """Reshape to one row a particle, where nothing is enumerated."""
        cells = value.shape[value.dim() - event - 1 :]
        return value if value.dim() > 2 + event else value.reshape(self.particles, *cells)

    def draw(self, batch: Batch) -> Draw:
        """Trace guide and model on one minibatch and collect the terms of the objective."""
        return self.split(*self.traces(batch))

    def split(self, guide_trace: PyroTrace, model_trace: PyroTrace) -> Draw:
        """The terms of the objective, from the traces of guide and model."""
        latents, observed, shared = [], {}, torch.zeros_like(self.beta)
        guided: Mapping[str, Any] = guide_trace.nodes
        for site in sample_sites(guide_trace):
            if not within_cells(site):  # also the auxiliary sites of Pyro's AutoGuides
                shared = shared - log_prob(site).sum()
        for site in sample_sites(model_trace):
            if not within_cells(site):
                shared = shared + log_prob(site).sum()
            elif site["is_observed"]:
                observed[site["name"]] = self.rows(log_prob(site))
            else:
                latents.append((guided[site["name"]], site))
        enumerated = [site for site, _ in latents if site["infer"].get("_enumerate_dim")]
        branches = log_prob(enumerated[0]) if enumerated else None
        return Draw(observed, latents, shared / self.cells, branches)

    def traces(self, batch: Batch) -> tuple[PyroTrace, PyroTrace]:
        """The guide's trace and the model's, replayed at the guide's draws."""
        return tracing.traces(self.model, self.guide, batch, self.particles)


class Trace(Objective):
    r"""The evidence lower bound, every term estimated by sampling: the mean of S log weights.

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`.

    References
    ----------
    Hoffman et al., Stochastic Variational Inference, JMLR 2013, https://arxiv.org/abs/1206.7051

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> objective = Trace(*pair, cells=8, particles=3)
    >>> objective.per_cell(x=torch.ones(8, 5), library=torch.full((8, 1), 5.0)).shape
    torch.Size([8])
    """


class ELBO(Objective):
    r"""The evidence lower bound, each KL in closed form where one is known, else by sampling.

        E_q[log p(x | z)] - sum_d KL(q(z_d) || p(z_d))

    The default objective of a story: it is defined for every prior and guide.

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`.

    References
    ----------
    Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import seeded
    >>> from pgm_expr.models import VAE
    >>> objective = ELBO(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=8).eval()
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> with seeded(0):
    ...     loss = objective(**batch)
    >>> with seeded(0):
    ...     bound = objective.per_cell(**batch)
    >>> torch.allclose(loss, -bound.mean())
    True
    >>> with seeded(0):
    ...     bool(objective.temper(0.5)(**batch) < loss)  # the KL counts half
    True
    """

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """KL(q || p) or log q - log p of each latent site: (S, N, D) or (S, N, 1)."""
        for pair in draw.latents:
            try:
                yield self._closed(*pair)
            except NoClosedForm:
                yield self._sampled(*pair)

    def _closed(self, guide_site: Site, model_site: Site) -> Tensor:
        return self.rows(kl_by_dimension(guide_site, model_site), event=1)


class MeanField(ELBO):
    """The evidence lower bound with every KL in closed form.

    The guide must sample its sites in the order of the model.

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`.

    Raises
    ------
    ValueError
        When called, if a pair of distributions has no known KL; it is named.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> floored = MeanField(*pair, cells=8).free_bits(0.5)
    >>> floored(**batch).shape
    torch.Size([])
    """

    def costs(self, draw: Draw) -> Iterable[Tensor]:
        """KL(q || p) of each latent site, (S, N, D)."""
        return (self._closed(*pair) for pair in draw.latents)
