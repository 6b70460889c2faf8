r"""Noise schedules:  x_t = alpha(t) x_0 + sigma(t) eps,  t in [least, most].

The corresponding stochastic differential equation is  dx = f(t) x dt + g(t) dW  with

    f   = d log alpha / dt
    g^2 = d sigma^2 / dt - 2 f sigma^2

            alpha               sigma               f         g^2
    VP      sqrt(alpha_bar)     sqrt(1-alpha_bar)   -beta/2   beta = -d log alpha_bar / dt
    VE      1                   low (high/low)^t    0         d sigma^2 / dt
    EDM     1                   t                   0         2 t

Data are assumed to have mean 0 and standard deviation 1, so x_most is close to
Normal(0, alpha^2 + sigma^2): 1 for VP, but sigma_max^2 and not 1 for VE and EDM.

Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456 (VP, VE)
Nichol and Dhariwal, ICML 2021, https://arxiv.org/abs/2102.09672 (cosine)
Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364 (EDM)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class Noise(ABC):
    """Base class of noise schedules.

    A schedule defines sigma, diffusion and time, and alpha and drift where they are not 1 and 0.
    Every method takes and returns tensors of any shape.

    Attributes
    ----------
    least, most
        Range of times. Times below `least` are neither trained on nor sampled at, since the score
        is unbounded there.

    Examples
    --------
    >>> import torch
    >>> noise = VPLinear()
    >>> t = torch.tensor(0.5)
    >>> (noise.alpha(t) ** 2 + noise.sigma(t) ** 2).item()
    1.0
    >>> torch.allclose(noise.time(noise.log_snr(t)), t)
    True
    """

    least: float
    most: float

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the data at time t."""
        return torch.ones_like(t)

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""

    def drift(self, t: Tensor) -> Tensor:
        """f(t), the drift's factor of x."""
        return torch.zeros_like(t)

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t)^2, the squared diffusion coefficient."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The time at which log alpha^2 / sigma^2 has a value."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log alpha^2 / sigma^2, the log signal-to-noise ratio, which decreases in t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def ends(self) -> Tensor:
        """The times least and most, (2,)."""
        return torch.tensor([self.least, self.most], dtype=torch.float64)

    def times(self, steps: int) -> Tensor:
        """Times (steps,) of a sampler, from most to least, in equal steps of log-SNR."""
        low, high = self.log_snr(self.ends()).flip(0).tolist()
        return self.time(torch.linspace(low, high, steps, dtype=torch.float64))

    def draw(self, n: int) -> Tensor:
        """Random times (n,) of training."""
        return self.least + (self.most - self.least) * torch.rand(n)

    def start(self, n: int, size: int) -> Tensor:
        """Draws (n, size) of x_most."""
        most = torch.tensor(self.most)
        return torch.hypot(self.alpha(most), self.sigma(most)) * torch.randn(n, size)


class VP(Noise):
    """Variance-preserving schedules, alpha^2 + sigma^2 = 1, from log alpha_bar and beta."""

    @abstractmethod
    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """log alpha(t)^2."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """-d log alpha_bar / dt."""

    def alpha(self, t: Tensor) -> Tensor:
        return (self.log_alpha_bar(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self.log_alpha_bar(t))).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        return -self.beta(t) / 2

    def diffusion(self, t: Tensor) -> Tensor:
        return self.beta(t)


@dataclass(frozen=True)
class VPLinear(VP):
    """Variance-preserving with linear beta(t) = low + (high - low) t.

    Parameters
    ----------
    low, high
        beta at times 0 and 1.
    least, most
        Range of times.

    References
    ----------
    Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456

    Examples
    --------
    >>> import torch
    >>> VPLinear().alpha(torch.tensor([0.0, 1.0]))
    tensor([1.0000, 0.0066])
    """

    low: float = 0.1
    high: float = 20.0
    least: float = 1e-4
    most: float = 1.0

    def beta(self, t: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * t

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        return -(self.low * t + (self.high - self.low) * t**2 / 2)

    def time(self, log_snr: Tensor) -> Tensor:
        area = -logsigmoid(log_snr)  # the integral of beta up to t
        root = (self.low**2 + 2 * (self.high - self.low) * area).sqrt()
        return 2 * area / (self.low + root)


@dataclass(frozen=True)
class VPCosine(VP):
    """Variance-preserving with alpha(t) = cos(u) / cos(u_0), u linear from u_0 to pi / 2.

    Parameters
    ----------
    offset
        Sets u_0, so that noise at small t is not too small.
    least, most
        Range of times. At 1, alpha is 0 and beta infinite.

    References
    ----------
    Nichol and Dhariwal, ICML 2021, https://arxiv.org/abs/2102.09672

    Examples
    --------
    >>> import torch
    >>> VPCosine().alpha(torch.tensor([0.0, 0.5])).round(decimals=2)
    tensor([1.0000, 0.7000])
    """

    offset: float = 0.008
    least: float = 1e-4
    most: float = 0.9946

    def _angles(self, t: Tensor) -> tuple[float, Tensor]:
        """u_0 and u - u_0."""
        speed = math.pi / 2 / (1 + self.offset)
        return speed * self.offset, speed * t

    def beta(self, t: Tensor) -> Tensor:
        first, turned = self._angles(t)
        return math.pi / (1 + self.offset) * (first + turned).tan()

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        first, turned = self._angles(t)
        lost = 2 * (turned / 2).sin() ** 2 + turned.sin() * math.tan(first)  # 1 - alpha
        return 2 * torch.log1p(-lost)

    def time(self, log_snr: Tensor) -> Tensor:
        first, _ = self._angles(log_snr)
        angle = ((logsigmoid(log_snr) / 2).exp() * math.cos(first)).acos()
        return (angle - first) / first * self.offset


@dataclass(frozen=True)
class VE(Noise):
    """Variance-exploding: sigma grows geometrically, alpha is 1.

    Parameters
    ----------
    low, high
        sigma at times 0 and 1.
    least, most
        Range of times.

    References
    ----------
    Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456

    Examples
    --------
    >>> import torch
    >>> VE(low=0.01, high=100.0).sigma(torch.tensor(0.5)).round(decimals=3)
    tensor(1.)
    """

    low: float = 0.01
    high: float = 50.0
    least: float = 0.0
    most: float = 1.0

    @property
    def growth(self) -> float:
        """d log sigma / dt."""
        return math.log(self.high / self.low)

    def sigma(self, t: Tensor) -> Tensor:
        return self.low * (self.growth * t).exp()

    def diffusion(self, t: Tensor) -> Tensor:
        return 2 * self.growth * self.sigma(t) ** 2

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2 - math.log(self.low)) / self.growth


@dataclass(frozen=True)
class EDM(Noise):
    """sigma(t) = t, sampled on the paper's grid and trained at lognormal noise levels.

    Parameters
    ----------
    least, most
        Range of times.
    rho
        Exponent of the sampler's grid.
    centre, spread
        Mean and standard deviation of log sigma in training. The paper's mean, -1.2, is for data
        of standard deviation 1/2; the default is for 1.

    References
    ----------
    Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364

    Examples
    --------
    >>> [round(t, 3) for t in EDM().times(3).tolist()]
    [80.0, 2.515, 0.002]
    """

    least: float = 0.002
    most: float = 80.0
    rho: float = 7.0
    centre: float = -1.2 + math.log(2)
    spread: float = 1.2

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def diffusion(self, t: Tensor) -> Tensor:
        return 2 * t

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).exp()

    def times(self, steps: int) -> Tensor:
        least, most = (self.ends() ** (1 / self.rho)).tolist()
        return torch.linspace(most, least, steps, dtype=torch.float64) ** self.rho

    def draw(self, n: int) -> Tensor:
        return (self.centre + self.spread * torch.randn(n)).exp().clamp(self.least, self.most)
