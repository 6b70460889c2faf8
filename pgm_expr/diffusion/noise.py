r"""How data fade into noise:  x_t = alpha(t) x_0 + sigma(t) eps,  t in [least, most].

The same as a stochastic equation is  dx = f(t) x dt + g(t) dW  with

    f   = d log alpha / dt
    g^2 = d sigma^2 / dt - 2 f sigma^2

            alpha               sigma               f         g^2
    VP      sqrt(alpha_bar)     sqrt(1-alpha_bar)   -beta/2   beta = -d log alpha_bar / dt
    VE      1                   low (high/low)^t    0         d sigma^2 / dt
    EDM     1                   t                   0         2 t

Data are taken to have mean 0 and standard deviation 1, so x_most is close to
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
    """What all schedules share; one of them gives alpha, sigma, drift, diffusion and time."""

    least: float  # times below are neither learnt nor asked for: the score there is unbounded
    most: float

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    def drift(self, t: Tensor) -> Tensor:
        """f(t)."""
        return torch.zeros_like(t)

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t)^2."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log alpha^2 / sigma^2, falling in t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def ends(self) -> Tensor:
        """The times (2,) least and most."""
        return torch.tensor([self.least, self.most], dtype=torch.float64)

    def times(self, steps: int) -> Tensor:
        """The times (steps,) a sampler asks at, from most to least: even steps of log-SNR."""
        low, high = self.log_snr(self.ends()).flip(0).tolist()
        return self.time(torch.linspace(low, high, steps, dtype=torch.float64))

    def draw(self, n: int) -> Tensor:
        """Times (n,) to learn at."""
        return self.least + (self.most - self.least) * torch.rand(n)

    def start(self, n: int, size: int) -> Tensor:
        """Draws (n, size) of x_most."""
        most = torch.tensor(self.most)
        return torch.hypot(self.alpha(most), self.sigma(most)) * torch.randn(n, size)


class VP(Noise):
    """Variance-preserving, alpha^2 + sigma^2 = 1, by its log alpha_bar and beta."""

    @abstractmethod
    def log_alpha_bar(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor: ...

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
    """beta(t) = low + (high - low) t."""

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
    """alpha(t) = cos(u) / cos(u_0) with the angle u running evenly from u_0 to pi / 2."""

    offset: float = 0.008
    least: float = 1e-4
    most: float = 0.9946  # at 1 nothing is left of the data, and beta is infinite

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
    """Variance-exploding: sigma grows geometrically, data stay as they are."""

    low: float = 0.01
    high: float = 50.0
    least: float = 0.0
    most: float = 1.0

    @property
    def growth(self) -> float:
        return math.log(self.high / self.low)

    def sigma(self, t: Tensor) -> Tensor:
        return self.low * (self.growth * t).exp()

    def diffusion(self, t: Tensor) -> Tensor:
        return 2 * self.growth * self.sigma(t) ** 2

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2 - math.log(self.low)) / self.growth


@dataclass(frozen=True)
class EDM(Noise):
    """sigma(t) = t: asked on the paper's grid, learnt at lognormal noise levels.

    The paper's centre of log sigma, -1.2, is for data of standard deviation 1/2: here twice that.
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
