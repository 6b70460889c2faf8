r"""Adaptive shrinkage of log fold changes, with noise that genes share.

    effect_g     ~ pi_0 delta_0 + sum_k pi_k Normal(0, sigma_k^2)
    u            ~ Normal(0, I)                              chance differences of states, (Q,)
    observed_g   = effect_g + noise_g . u + error_g          the error has the likelihood of curves

pi is estimated by maximum likelihood over all genes, with a penalty that prefers no effect, as
Stephens does; u by its mode, whose uncertainty widens each likelihood. Shared noise is what makes
all genes of a program look different between two small groups of cells at once; without it, the
estimated pi would take a chance difference for many small effects.

Stephens, Biostatistics 2017, https://doi.org/10.1093/biostatistics/kxw041
Gerard and Stephens, Biostatistics 2020, https://doi.org/10.1093/biostatistics/kxy029
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .curves import Curves, interpolate

PENALTY = 10.0  # genes without effect that the prior of pi is worth
TIE = 1.0  # of log evidence within which the wider noise is taken
ROUNDS, EM_STEPS, CLOSE = 8, 1000, 1e-6
WIDER = (1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)  # factors of standard errors that are compared
WINDOW = 32  # lattice points to each side over which shared noise may shift a gene


class Prior(NamedTuple):
    """Weights and scales of normal components, (K,); the first has scale 0."""

    weight: Tensor
    scale: Tensor


class Posterior(NamedTuple):
    """Posterior of effects: mass of lattice cells (G, J), and of exactly 0 (G,)."""

    curves: Curves
    mass: Tensor
    zero: Tensor
    prior: Prior
    shared: Tensor  # (Q,)


def shrink(curves: Curves, noise: Tensor | None = None, *, widen: bool = True) -> Posterior:
    """Posterior of all effects.

    Parameters
    ----------
    curves
        Likelihoods.
    noise
        Shared noise of the observed effects, (G, Q), natural log.
    widen
        Without `noise`: widen likelihoods by what all genes deviate beyond their errors.
    """
    if noise is None or not noise.shape[1]:
        at, prior = _calibrated(curves, WIDER if widen else WIDER[:1])
        return _posterior(at, prior, torch.zeros(0))
    shift, extra = torch.zeros_like(curves.se), (noise**2).sum(-1)
    for _ in range(ROUNDS):
        total = (curves.se**2 + extra).sqrt()
        at = curves.moved(shift).widened(total / curves.se)
        prior, _ = _fit(at, _scales(at))
        before, (shared, shift, extra) = shift, _shared(curves, noise, prior)
        if (shift - before).abs().max() < 1e-3:
            break
    return _posterior(at, prior, shared)


def _calibrated(curves: Curves, factors: Sequence[float]) -> tuple[Curves, Prior]:
    """Curves widened by the most likely factor, and the prior of effects given it.

    Noise that genes share makes all of them deviate more than their standard errors say. Effects
    that are many and as small as the noise would explain that as well; noise is preferred.
    """
    fits = []
    for factor in factors:
        at = curves.widened(factor)
        fits.append((at, *_fit(at, _scales(at))))
    best = max(value for *_, value in fits)
    at, prior, _ = next(fit for fit in reversed(fits) if fit[2] >= best - TIE)
    return at, prior


def _scales(curves: Curves) -> Tensor:
    """A grid of standard deviations, each sqrt(2) times the one before."""
    smallest = curves.se.min() / 10
    excess = (curves.raw**2 - curves.se**2).clamp(min=0).max().sqrt()
    largest = (2 * excess).clamp(min=float(8 * smallest), max=8.0)
    return smallest * 2 ** (torch.arange(int((largest / smallest).log2().ceil() * 2) + 1) / 2)


def _masses(at: Tensor, step: Tensor, scale: Tensor) -> Tensor:
    """Mass of cells about points (G, J) under each normal component, (G, J, K)."""
    half = step.view(-1, 1, 1) / 2
    edges = at.unsqueeze(-1)
    return torch.special.ndtr((edges + half) / scale) - torch.special.ndtr((edges - half) / scale)


def _at_zero(curves: Curves) -> Tensor:
    """Which lattice point is 0, (G, J) bool."""
    return curves.effect.abs() < curves.step.unsqueeze(-1) / 4


def _fit(curves: Curves, scale: Tensor) -> tuple[Prior, float]:
    """Weights by expectation maximisation, and the log evidence with the penalty."""
    likelihood = _density(curves)
    spread = torch.einsum("gj,gjk->gk", likelihood, _masses(curves.effect, curves.step, scale))
    zero = (likelihood * _at_zero(curves)).sum(-1, keepdim=True)
    evidence = torch.cat([zero, spread], -1)
    weight = torch.full((len(scale) + 1,), 0.5 / len(scale), dtype=torch.double)
    weight[0] = 0.5
    for _ in range(EM_STEPS):
        share = weight * evidence
        new = (share / share.sum(-1, keepdim=True).clamp(min=1e-300)).sum(0)
        new[0] += PENALTY - 1
        new = new / new.sum()
        if (new - weight).abs().max() < CLOSE:
            break
        weight = new
    value = (evidence @ weight).clamp(min=1e-300).log().sum()
    scales = torch.cat([torch.zeros(1, dtype=torch.double), scale])
    return Prior(weight, scales), float(value)


def _density(curves: Curves) -> Tensor:
    """Likelihoods as densities of the observed effect, per natural-log unit, (G, J)."""
    return curves.log_likelihood.softmax(-1) / curves.step.unsqueeze(-1)


def _posterior(curves: Curves, prior: Prior, shared: Tensor) -> Posterior:
    likelihood = curves.log_likelihood.softmax(-1)
    masses = _masses(curves.effect, curves.step, prior.scale[1:])
    mass = likelihood * (masses @ prior.weight[1:])
    zero = prior.weight[0] * (likelihood * _at_zero(curves)).sum(-1)
    evidence = mass.sum(-1) + zero
    return Posterior(curves, mass / evidence.unsqueeze(-1), zero / evidence, prior, shared)


def _shared(curves: Curves, noise: Tensor, prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
    """Mode (Q,) of the shared noise, and what all other genes say of each: mean, variance (G,)."""
    table = _shifted(curves, prior)
    shared = torch.zeros(noise.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([shared], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = interpolate(table, (noise @ shared).unsqueeze(-1)).sum()
        value = 0.5 * (shared**2).sum() - fit
        value.backward()
        return value

    optimizer.step(loss)
    shared = shared.detach()
    shift, step = (noise @ shared).unsqueeze(-1), table.step.unsqueeze(-1)
    up, down, here = (interpolate(table, shift + k * step) for k in (1, -1, 0))
    slope, bend = (up - down) / (2 * step), ((2 * here - up - down) / step**2).clamp(min=0)
    precision = torch.eye(len(shared), dtype=torch.double) + noise.T @ (bend * noise)
    variance = torch.einsum("gi,ij,gj->g", noise, torch.linalg.inv(precision), noise)
    others = variance / (1 - bend.squeeze(-1) * variance).clamp(min=1e-3)
    return shared, shift.squeeze(-1) - others * slope.squeeze(-1), others


def _shifted(curves: Curves, prior: Prior) -> Curves:
    """Log evidence of each gene under shifts of its observed effect, as curves of the shift."""
    points, step = curves.effect.shape[1], curves.step.unsqueeze(-1)
    shift = torch.arange(-WINDOW, WINDOW + 1) * step  # (G, S)
    spots = curves.effect[:, :1] + torch.arange(-WINDOW, points + WINDOW) * step
    density = _masses(spots, curves.step, prior.scale[1:]) @ prior.weight[1:]
    density = density + prior.weight[0] * (spots.abs() < step / 4)
    windows = density.unfold(-1, points, 1).flip(1)  # (G, S, J): effect less shift
    likelihood = curves.log_likelihood.softmax(-1)
    evidence = torch.einsum("gsj,gj->gs", windows, likelihood).clamp(min=1e-300).log()
    return Curves(shift, evidence, torch.zeros_like(curves.raw), curves.se, curves.step)


def summarise(found: Posterior, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation, and local false sign rate of |effect| > threshold, (G,) each."""
    at, half = found.curves.effect, found.curves.step.unsqueeze(-1) / 2
    mean = (found.mass * at).sum(-1)
    sd = ((found.mass * at**2).sum(-1) - mean**2).clamp(min=0).sqrt()
    sides = (((s * at + half - threshold) / (2 * half)).clamp(0, 1) for s in (1, -1))
    above, below = ((found.mass * side).sum(-1) for side in sides)
    return mean, sd, (1 - torch.maximum(above, below)).clamp(0, 1)


def quantiles(found: Posterior, levels: np.ndarray) -> np.ndarray:
    """Quantiles of the posterior, (P, G)."""
    half = found.curves.step.numpy() / 2
    start, mass = found.curves.effect.numpy()[:, 0] - half, np.cumsum(found.mass.numpy(), 1)
    result = np.empty((len(levels), len(start)))
    for g, zero in enumerate(found.zero.numpy()):
        edges = start[g] + 2 * half[g] * np.arange(mass.shape[1] + 1)
        below = np.append(0, mass[g])
        left = np.interp(0, edges, below)  # P(effect < 0)
        without = np.where(levels > left, (levels - zero).clip(left), levels)
        rising = np.concatenate([[True], np.diff(below) > 0])
        value = np.interp(without, below[rising], edges[rising])
        result[:, g] = np.where((levels > left) & (levels <= left + zero), 0.0, value)
    return result
