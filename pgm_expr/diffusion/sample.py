r"""From noise to data: samplers, each a function (denoise, noise, x, steps) -> x0.

`denoise(x, t)` gives x0 = E[x_0 | x_t], `x` (N, D) is drawn by `noise.start`, and times fall
along `noise.times(steps)`. All end by giving x0 at the least time: no noise is added last, and
`steps` is how often the network is asked (Heun: 2 steps - 1 times).

    stochastic      dx = (f x - g^2 score) dt + g dW        time running backwards
    deterministic   dx = (f x - g^2 score / 2) dt           the probability flow
    the same        d(x / alpha) / d(sigma / alpha) = eps   whatever the schedule

    order
    1   euler_maruyama, ddim
    2   heun, dpm_solver_pp_2m
    -   probability_flow, which chooses its steps itself; its `log_prob`

Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from ..nn.divergence import ways, with_divergence
from .noise import Noise

Denoise = Callable[[Tensor, Tensor], Tensor]  # x (N, D), t () -> x0 (N, D)
Sampler = Callable[[Denoise, Noise, Tensor, int], Tensor]


@torch.no_grad()
def euler_maruyama(denoise: Denoise, noise: Noise, x: Tensor, steps: int = 1000) -> Tensor:
    """Steps of the stochastic equation back in time."""
    times = noise.times(steps).to(x)
    for t, s in pairwise(times):
        dt = t - s  # > 0
        f, g2 = noise.drift(t), noise.diffusion(t)
        score = (noise.alpha(t) * denoise(x, t) - x) / noise.sigma(t) ** 2
        x = x - (f * x - g2 * score) * dt + (g2 * dt).sqrt() * torch.randn_like(x)
    return denoise(x, times[-1])


@torch.no_grad()
def ddim(
    denoise: Denoise, noise: Noise, x: Tensor, steps: int = 50, *, eta: float = 0.0
) -> Tensor:
    """Song et al., eq. 12 and 16, https://arxiv.org/abs/2010.02502; eta = 1 is DDPM's sampler."""
    times = noise.times(steps).to(x)
    for t, s in pairwise(times):
        (a_t, sigma_t), (a_s, sigma_s) = _levels(noise, t), _levels(noise, s)
        x0 = denoise(x, t)
        eps = (x - a_t * x0) / sigma_t
        fresh = eta * sigma_s / sigma_t * (sigma_t**2 - (a_t / a_s * sigma_s) ** 2).sqrt()
        x = a_s * x0 + (sigma_s**2 - fresh**2).sqrt() * eps + fresh * torch.randn_like(x)
    return denoise(x, times[-1])


@torch.no_grad()
def heun(denoise: Denoise, noise: Noise, x: Tensor, steps: int = 20) -> Tensor:
    """Karras et al., algorithm 1, https://arxiv.org/abs/2206.00364, on y = x / alpha."""
    times = noise.times(steps).to(x)
    for t, s in pairwise(times):
        (a_t, sigma_t), (a_s, sigma_s) = _levels(noise, t), _levels(noise, s)
        level_t, level_s = sigma_t / a_t, sigma_s / a_s
        y = x / a_t
        d = (y - denoise(x, t)) / level_t
        ahead = y + (level_s - level_t) * d
        d_ahead = (ahead - denoise(a_s * ahead, s)) / level_s
        x = a_s * (y + (level_s - level_t) * (d + d_ahead) / 2)
    return denoise(x, times[-1])


@torch.no_grad()
def dpm_solver_pp_2m(denoise: Denoise, noise: Noise, x: Tensor, steps: int = 20) -> Tensor:
    """Lu et al., DPM-Solver++(2M), algorithm 2, https://arxiv.org/abs/2211.01095.

    Between times x0 is a line in lambda = log(alpha / sigma), through its last two values.
    """
    times = noise.times(steps).to(x)
    last = None
    for t, s in pairwise(times):
        h = (noise.log_snr(s) - noise.log_snr(t)) / 2
        x0 = denoise(x, t)
        d = x0 if last is None else x0 + h / (2 * last[1]) * (x0 - last[0])
        x = noise.sigma(s) / noise.sigma(t) * x - noise.alpha(s) * torch.expm1(-h) * d
        last = x0, h
    return denoise(x, times[-1])


@torch.no_grad()
def probability_flow(
    denoise: Denoise, noise: Noise, x: Tensor, steps: int = 0, *, tolerance: float = 1e-5
) -> Tensor:
    """The probability flow by Dormand and Prince's adaptive steps; `steps` is not heeded."""
    least, most = noise.ends().to(x)
    v, ends = _flow(denoise, noise), _log_levels(noise, x)
    y = odeint(v, x / noise.alpha(most), ends.flip(0), rtol=tolerance, atol=tolerance)[-1]
    return denoise(noise.alpha(least) * y, least)


@torch.no_grad()
def log_prob(
    denoise: Denoise,
    noise: Noise,
    x: Tensor,
    *,
    tolerance: float = 1e-5,
    exact: int = 32,
    probes: int = 8,
) -> Tensor:
    """log p (N,) of data x (N, D), at the least time, along the probability flow v.

        log p(y_least) = log p(y_most) + int div v dl        from the least level to the most

    The divergence is exact up to `exact` dimensions and above Hutchinson's estimate from `probes`
    signs, fixed along the way (Grathwohl et al., ICLR 2019, https://arxiv.org/abs/1810.01367).
    """
    v, ends = _flow(denoise, noise), _log_levels(noise, x)
    along = ways(x, exact=exact, probes=probes)

    def both(level: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return with_divergence(lambda y: v(level, y), state[0], along)

    alpha = noise.alpha(noise.ends()[0])
    start = x / alpha, x.new_zeros(len(x))
    y, gained = (path[-1] for path in odeint(both, start, ends, rtol=tolerance, atol=tolerance))
    scale = (1 + (2 * ends[-1]).exp()).sqrt()
    last = torch.distributions.Normal(0.0, scale).log_prob(y).sum(-1)
    return last + gained - x.shape[1] * alpha.log()


def _flow(denoise: Denoise, noise: Noise) -> Callable[[Tensor, Tensor], Tensor]:
    """The probability flow of y = x / alpha in l = log(sigma / alpha):  v = dy / dl = y - x0."""

    def v(level: Tensor, y: Tensor) -> Tensor:
        t = noise.time(-2 * level.double()).to(y)
        return y - denoise(noise.alpha(t) * y, t)

    return v


def _log_levels(noise: Noise, x: Tensor) -> Tensor:
    """log(sigma / alpha), (2,), at the least time and the most."""
    return (-noise.log_snr(noise.ends()) / 2).to(x)


def _levels(noise: Noise, t: Tensor) -> tuple[Tensor, Tensor]:
    return noise.alpha(t), noise.sigma(t)
