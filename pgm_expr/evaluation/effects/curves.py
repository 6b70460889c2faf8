r"""The likelihood of each effect, with intercepts and dispersion integrated out.

    L_g(beta) = int p(phi) prod_b [ int prod_(i in b) NB(x_ig | alpha + beta group_i, phi) dalpha ]

by sums over a lattice of alpha and beta of the same spacing, so that the inner integral is a
cross-correlation of the two groups, and over the nodes of phi. No normal approximation: a gene
without counts in one group has the one-sided likelihood that it should have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .dispersion import Dispersion, estimate
from .profiles import Profiles, Rows

SPACING = 0.5  # of the lattice, in standard errors
REACH = 14.0  # of the lattice to each side, in standard errors
WIDEST = 3.0  # standard errors, natural log, beyond which a gene without counts is not followed
GENES = 100  # held at a time


class Curves(NamedTuple):
    """Log likelihoods of effects on lattices (multiples of `step`), natural log.

    `effect` and `log_likelihood` are (G, J); `raw`, its standard error `se` and `step` are (G,).
    """

    effect: Tensor
    log_likelihood: Tensor
    raw: Tensor
    se: Tensor
    step: Tensor

    def widened(self, factor: Tensor | float) -> Curves:
        """The likelihoods of counts whose errors are larger by a factor, (G,) or one for all."""
        power = torch.as_tensor(factor, dtype=torch.double).reshape(-1, 1) ** -2
        return self._replace(log_likelihood=self.log_likelihood * power, se=self.se * factor)

    def moved(self, shift: Tensor) -> Curves:
        """The likelihood of effects that are observed with this addition (G,)."""
        start = ((self.raw - shift) / self.step).round() - self.effect.shape[1] // 2
        effect = (start.unsqueeze(-1) + torch.arange(self.effect.shape[1])) * self.step.unsqueeze(
            -1
        )
        moved = interpolate(self, effect + shift.unsqueeze(-1))
        return self._replace(effect=effect, log_likelihood=moved, raw=self.raw - shift)


def interpolate(curves: Curves, at: Tensor) -> Tensor:
    """Log likelihoods at any effects (G, P), cubic within the lattice, falling outside it."""
    ll, last = curves.log_likelihood, curves.effect.shape[1] - 1
    wanted = (at - curves.effect[:, :1]) / curves.step.unsqueeze(-1)
    place = wanted.clamp(0, last)
    left = place.floor().clamp(1, last - 2).long()
    t = place - left
    a, b, c, d = (ll.gather(1, left + offset) for offset in (-1, 0, 1, 2))
    outer = d * (t + 1) * t * (t - 1) - a * t * (t - 1) * (t - 2)
    inner = b * (t + 1) * (t - 1) * (t - 2) - c * (t + 1) * t * (t - 2)
    return outer / 6 + inner / 2 - 2 * (wanted - place).abs()


def curves(profiles: Profiles, dispersion: Dispersion, noise: Tensor | None = None) -> Curves:
    """Likelihoods of the effects of all genes.

    Parameters
    ----------
    profiles
        Counts of two groups.
    dispersion
        Their dispersions.
    noise
        Standard deviation of additional noise of effects (G,), which the lattice must cover.
    """
    genes = len(dispersion.mean)
    noise = torch.zeros(genes, dtype=torch.double) if noise is None else noise
    parts = [
        _curves(profiles.genes(at), dispersion.genes(torch.as_tensor(at)), noise[at])
        for at in np.array_split(np.arange(genes), -(-genes // GENES))
    ]
    return Curves(*map(torch.cat, zip(*parts, strict=True)))


def _curves(profiles: Profiles, dispersion: Dispersion, noise: Tensor) -> Curves:
    best, rows = estimate(profiles, dispersion.mean.unsqueeze(-1)), profiles.rows
    raw, se = best.effect.squeeze(-1), best.se.squeeze(-1).clamp(max=WIDEST)
    step = SPACING * (se**2 + noise**2 / 4).sqrt()
    reach = int(REACH / SPACING)
    points = torch.arange(-reach, reach + 1) + (raw / step).round().unsqueeze(-1)  # (G, J)
    log_phi = dispersion.nodes
    total = (dispersion.log_prior + profiles.constant(log_phi)).unsqueeze(-1)  # (G, K, 1)
    wide = int(reach * rows.blocks**0.5)  # intercepts of blocks are less certain than the effect
    for b in range(rows.blocks):
        centre = best.intercept[b]  # (G, 1)
        alpha = torch.arange(-wide, wide + 1) * step.unsqueeze(-1) + centre  # (G, M)
        both = points[:, :1] - wide + torch.arange(2 * (reach + wide) + 1)
        low = _side(rows, (rows.block == b) & (rows.group == 0), alpha, log_phi)
        high = _side(
            rows,
            (rows.block == b) & (rows.group == 1),
            both * step.unsqueeze(-1) + centre,
            log_phi,
        )
        windows = high.unfold(-1, alpha.shape[1], 1)  # (G, K, J, M)
        total = total + (low.unsqueeze(2) + windows).logsumexp(-1)
    found = total.logsumexp(1)
    return Curves(points * step.unsqueeze(-1), found - found.amax(-1, keepdim=True), raw, se, step)


def _side(rows: Rows, at: Tensor, log_rate: Tensor, log_phi: Tensor) -> Tensor:
    """Log likelihood of some rows at log rates (G, P), for all dispersions, (G, K, P)."""
    log_theta, found = -log_phi.unsqueeze(-1), torch.zeros(1, dtype=torch.double)
    for row in torch.nonzero(at).flatten().tolist():
        eta = (rows.log_size[row].unsqueeze(-1) + log_rate).unsqueeze(1)  # (G, 1, P)
        x = rows.total[row].view(-1, 1, 1)
        weight = x + rows.number[row] * log_theta.exp()
        found = found + x * eta - weight * torch.logaddexp(log_theta, eta)
    return found
