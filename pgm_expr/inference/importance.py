r"""Importance-weighted objectives: Renyi's bounds, of which IWAE is one.

    L_alpha = 1 / (1 - alpha) log 1/S sum_s w_s^(1 - alpha),   w = p(x, z) / q(z | x)

where an enumerated y (K values) is summed exactly: w_s = sum_y p(x, y, z_s) / q(z_s | x, y).
alpha = 0 is the importance-weighted bound, alpha -> 1 the ELBO, and S = 1 the ELBO for any alpha.
For alpha >= 0 the expectation is at most log p(x): by Jensen's inequality for alpha < 1, and
between the ELBO and the (lower) Renyi bound of infinitely many particles for alpha > 1.

Li and Turner, NeurIPS 2016, https://arxiv.org/abs/1602.02311
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
from pyro.distributions.util import detach
from torch import Tensor, nn

from .objective import Draw, Objective, particle_count
from .tracing import total


def order(text: str | float) -> float:
    """Check an alpha, given as a number or in an objective's name."""
    alpha = float(text)
    if not (alpha >= 0 and math.isfinite(alpha)) or abs(alpha - 1) < 5e-6:  # float32 cancels
        raise ValueError(f"alpha must be at least 0 and not 1, which is `trace`: got {text}.")
    return alpha


class Renyi(Objective):
    r"""Renyi's bound of order alpha with S particles.

        1 / (1 - alpha) log 1/S sum_s w_s^(1 - alpha),   w = p(x, z) / q(z | x)

    Tempered, the weights are p(x | z) (p(z) / q(z))^beta: a bound only at beta = 1, where warm-up
    ends. `free_bits` raises ValueError, since the weights contain no average KL.

    Doubly reparameterised, the term of the guide's gradient with the score of q, whose signal
    vanishes as S grows, becomes a second pathwise one:

        d L / d phi = 1/N sum_n E sum_s (alpha v_s + (1 - alpha) v_s^2) dlog w_s/dz dz/dphi

    with v_s proportional to w_s^(1 - alpha).

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`.
    alpha
        Order, at least 0 and not 1.
    doubly
        Use the doubly reparameterised gradient; for stories with one latent site a cell.

    Raises
    ------
    ValueError
        If alpha is negative or 1, or, when called, if `doubly` meets several latent sites.

    References
    ----------
    Li and Turner, NeurIPS 2016, https://arxiv.org/abs/1602.02311
    Tucker et al., ICLR 2019, https://arxiv.org/abs/1810.04152 (doubly reparameterised)

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> objective = Renyi(*pair, cells=8, particles=4, alpha=0.5)
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> objective.log_weights(**batch).shape
    torch.Size([4, 8])
    """

    numbers: ClassVar[Mapping[str, Callable]] = {"alpha": order, "particles": particle_count}
    alpha: Tensor

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        *,
        cells: float,
        particles: int = 1,
        alpha: float = 0.5,
        doubly: bool = False,
    ) -> None:
        super().__init__(model, guide, cells=cells, particles=particles)
        self.register_buffer("alpha", torch.tensor(order(alpha)), persistent=False)
        self.doubly = doubly

    def free_bits(self, nats: float) -> Self:
        """Raise ValueError unless `nats` is 0: the weights contain no average KL."""
        if nats:
            raise ValueError(
                f"{type(self).__name__} has no KL to floor: got free_bits={nats}. Use MeanField."
            )
        return self

    def forward(self, **batch: Tensor) -> Tensor:
        draw = self.draw(batch)
        weigh = self._doubly_reparameterised if self.doubly else self._log_weights
        log_weights = weigh(draw, self.weighted(draw), self.beta)
        return -(self._log_mean(log_weights).mean() + draw.shared)

    def per_cell(self, **batch: Tensor) -> Tensor:
        draw = self.draw(batch)
        log_weights = self._log_weights(draw, total(draw.observed.values()))
        return self._log_mean(log_weights) + draw.shared

    def log_weights(self, **batch: Tensor) -> Tensor:
        """The log weight of each particle and cell, without the sites that all cells share.

        Parameters
        ----------
        **batch
            The entries of a minibatch, by argument name.

        Returns
        -------
        Tensor
            (S, N), nats.
        """
        draw = self.draw(batch)
        return self._log_weights(draw, total(draw.observed.values()))

    def _log_weights(self, draw: Draw, observed: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        weights = observed - beta * total(cost.sum(-1) for cost in self.costs(draw))
        return weights if draw.branches is None else (weights + draw.branches).logsumexp(0)

    def _doubly_reparameterised(self, draw: Draw, observed: Tensor, beta: Tensor) -> Tensor:
        """log w whose gradient reaches the guide through z alone, weighted once more there."""
        if len(draw.latents) != 1:
            names = ", ".join(site["name"] for site, _ in draw.latents)
            raise ValueError(f"dreg takes one latent site a cell: got {names}. Drop -dreg.")
        ((guide_site, model_site),) = draw.latents
        apart = guide_site | {"fn": detach(guide_site["fn"])}
        draw = draw._replace(latents=[(apart, model_site)])
        log_weights = self._log_weights(draw, observed, beta)
        if guide_site["value"].requires_grad:
            power = 1 - self.alpha
            share = (power * log_weights.detach()).softmax(0)
            factor = (1 - beta * power * (1 - share)).unsqueeze(-1)  # (S, N, 1)
            z = guide_site["value"]
            z.register_hook(lambda gradient: gradient * factor.view(*z.shape[:-1], 1))
        return log_weights

    def _log_mean(self, log_weights: Tensor) -> Tensor:
        power = 1 - self.alpha
        return ((power * log_weights).logsumexp(0) - math.log(self.particles)) / power


class IWAE(Renyi):
    r"""The importance-weighted bound: the log mean of S weights, tighter as S grows.

        E[log 1/S sum_s w_s] <= log p(x),  S = 1 is `Trace`

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`.
    doubly
        Use the doubly reparameterised gradient, see `Renyi`.

    References
    ----------
    Burda, Grosse and Salakhutdinov, ICLR 2016, https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import seeded
    >>> from pgm_expr.models import VAE
    >>> _ = torch.manual_seed(0)
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> batch = {"x": torch.ones(200, 5), "library": torch.full((200, 1), 5.0)}
    >>> with seeded(1), torch.no_grad():
    ...     one, many = (
    ...         IWAE(*pair, cells=200, particles=s).per_cell(**batch).mean() for s in (1, 100)
    ...     )
    >>> bool(many > one)
    True
    """

    numbers: ClassVar[Mapping[str, Callable]] = {"particles": particle_count}

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        *,
        cells: float,
        particles: int = 1,
        doubly: bool = False,
    ) -> None:
        super().__init__(model, guide, cells=cells, particles=particles, alpha=0.0, doubly=doubly)
