r"""Samplers, from noise to data: each is a function (denoise, noise, x, steps) -> x0.

`denoise(x, t)` gives x0 = E[x_0 | x_t], `x` (N, D) is drawn by `noise.start`, and times decrease
along `noise.times(steps)`. All return x0 at the smallest time; the last step adds no noise.
`steps` is the number of evaluations of the network (Heun: 2 steps - 1).

    stochastic      dx = (f x - g^2 score) dt + g dW        backwards in time
    deterministic   dx = (f x - g^2 score / 2) dt           the probability flow
    equivalently    d(x / alpha) / d(sigma / alpha) = eps   for every schedule

    order
    1   euler_maruyama, ddim
    2   heun, dpm_solver_pp_2m
    -   probability_flow, with adaptive steps; its `log_prob`

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
    """The stochastic differential equation backwards in time, by Euler and Maruyama; order 1.

    Parameters
    ----------
    denoise
        Function (x, t) -> x0, such as a `Denoiser`.
    noise
        The schedule that it was trained with.
    x
        Noise (N, D), from `noise.start`.
    steps
        Number of times at which the network is evaluated.

    Returns
    -------
    Tensor
        Data (N, D).

    References
    ----------
    Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> _ = torch.manual_seed(0)
    >>> noise = EDM()
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> z = euler_maruyama(denoise, noise, noise.start(2000, 1), steps=200)
    >>> bool(0.9 < z.std() < 1.1)
    True
    """
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
    """Denoising diffusion implicit models, order 1.

    Parameters
    ----------
    denoise, noise, x, steps
        See `euler_maruyama`.
    eta
        Share of fresh noise: 0 is deterministic, 1 is DDPM's sampler.

    Returns
    -------
    Tensor
        Data (N, D).

    References
    ----------
    Song et al., ICLR 2021, https://arxiv.org/abs/2010.02502 (equations 12 and 16)

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> _ = torch.manual_seed(0)
    >>> noise = EDM()
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> z = ddim(denoise, noise, noise.start(2000, 1), steps=50)
    >>> bool(0.9 < z.std() < 1.1)
    True
    """
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
    """Heun's method on y = x / alpha, order 2.

    Parameters
    ----------
    denoise, noise, x, steps
        See `euler_maruyama`.

    Returns
    -------
    Tensor
        Data (N, D).

    References
    ----------
    Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364 (algorithm 1)

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> _ = torch.manual_seed(0)
    >>> noise = EDM()
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> z = heun(denoise, noise, noise.start(2000, 1), steps=20)
    >>> bool(0.9 < z.std() < 1.1)
    True
    """
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
    """DPM-Solver++(2M), order 2.

    Between times, x0 is extrapolated linearly in lambda = log(alpha / sigma) from its last two
    values.

    Parameters
    ----------
    denoise, noise, x, steps
        See `euler_maruyama`.

    Returns
    -------
    Tensor
        Data (N, D).

    References
    ----------
    Lu et al., 2022, https://arxiv.org/abs/2211.01095 (algorithm 2)

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> _ = torch.manual_seed(0)
    >>> noise = EDM()
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> z = dpm_solver_pp_2m(denoise, noise, noise.start(2000, 1), steps=20)
    >>> bool(0.9 < z.std() < 1.1)
    True
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
    """The probability flow, with Dormand and Prince's adaptive steps.

    Parameters
    ----------
    denoise, noise, x
        See `euler_maruyama`.
    steps
        Not used: the steps are adaptive.
    tolerance
        Relative and absolute tolerance of a step.

    Returns
    -------
    Tensor
        Data (N, D).

    References
    ----------
    Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> _ = torch.manual_seed(0)
    >>> noise = EDM()
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> z = probability_flow(denoise, noise, noise.start(2000, 1), steps=0)
    >>> bool(0.9 < z.std() < 1.1)
    True
    """
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
    """log p(x) at the smallest time, along the probability flow v.

        log p(y_least) = log p(y_most) + int div v dl        from the smallest level to the largest

    Parameters
    ----------
    denoise, noise
        See `euler_maruyama`.
    x
        Data (N, D).
    tolerance
        Relative and absolute tolerance of a step.
    exact
        Largest D for which the divergence is exact.
    probes
        For larger D, number of sign vectors of Hutchinson's estimator, fixed along the path.

    Returns
    -------
    Tensor
        Log densities (N,), nats.

    References
    ----------
    Grathwohl et al., ICLR 2019, https://arxiv.org/abs/1810.01367

    Examples
    --------
    The denoiser of data that are Normal(0, 1):

    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> denoise = lambda x, t: x / (1 + t**2)
    >>> round(log_prob(denoise, EDM(), torch.zeros(1, 1)).item(), 2)  # -log(2 pi) / 2
    -0.92
    """
    v, ends = _flow(denoise, noise), _log_levels(noise, x)
    directions = ways(x, exact=exact, probes=probes)

    def both(level: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return with_divergence(lambda y: v(level, y), state[0], directions)

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
    """log(sigma / alpha), (2,), at the smallest and the largest time."""
    return (-noise.log_snr(noise.ends()) / 2).to(x)


def _levels(noise: Noise, t: Tensor) -> tuple[Tensor, Tensor]:
    return noise.alpha(t), noise.sigma(t)
