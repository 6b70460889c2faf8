r"""A network that removes noise:  x0(x_t, t, c) = E[x_0 | x_t, c].

Everything else follows from it:

    eps   = (x_t - alpha x0) / sigma             the noise that was added
    score = -eps / sigma                         the gradient of log p_t (Tweedie)

What the network F predicts is a choice; each is a function (F, x_t, alpha, sigma) -> x0:

    epsilon    F = eps
    clean      F = x0
    velocity   F = alpha eps - sigma x0
    karras     F = (x0 - alpha x_t / r^2) r / sigma,   r^2 = alpha^2 + sigma^2

The last is EDM's, for data of standard deviation 1: its target has standard deviation 1 at every
t. On a variance-preserving path it is minus the velocity. The inputs of F are x_t / r and
log(sigma / alpha) / 40.

The loss is denoising score matching, w(t) |x0 - x_0|^2 with t >= least. The score's lambda =
sigma^2 means w = alpha^2 / sigma^2 (`score_weight`); EDM's is 1 + alpha^2 / sigma^2.

Vincent, 2011, https://doi.org/10.1162/NECO_a_00142
Salimans and Ho, ICLR 2022, https://arxiv.org/abs/2202.00512 (velocity)
Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364 (EDM)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .noise import Noise

LEVEL = 40.0  # log(sigma / alpha) a unit of network time: the fastest sine has period 1/4


def epsilon(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 from a network that predicts the noise.

    Parameters
    ----------
    out
        Output of the network, (N, D).
    x
        Noisy states x_t, (N, D).
    alpha, sigma
        Signal and noise level, (N, 1) or ().

    Returns
    -------
    Tensor
        E[x_0 | x_t], (N, D).

    Examples
    --------
    >>> import torch
    >>> x0, eps, alpha, sigma = torch.tensor([2.0, 1.0, 0.6, 0.8])
    >>> epsilon(eps, alpha * x0 + sigma * eps, alpha, sigma)
    tensor(2.)
    """
    return (x - sigma * out) / alpha


def clean(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 from a network that predicts it.

    Parameters
    ----------
    out, x, alpha, sigma
        See `epsilon`.

    Returns
    -------
    Tensor
        E[x_0 | x_t], (N, D).

    Examples
    --------
    >>> import torch
    >>> clean(*torch.tensor([2.0, 1.0, 0.6, 0.8]))
    tensor(2.)
    """
    return out


def velocity(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 from a network that predicts the velocity alpha eps - sigma x0.

    Parameters
    ----------
    out, x, alpha, sigma
        See `epsilon`.

    Returns
    -------
    Tensor
        E[x_0 | x_t], (N, D).

    References
    ----------
    Salimans and Ho, ICLR 2022, https://arxiv.org/abs/2202.00512

    Examples
    --------
    >>> import torch
    >>> x0, eps, alpha, sigma = torch.tensor([2.0, 1.0, 0.6, 0.8])
    >>> velocity(alpha * eps - sigma * x0, alpha * x0 + sigma * eps, alpha, sigma)
    tensor(2.)
    """
    return (alpha * x - sigma * out) / (alpha**2 + sigma**2)


def karras(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x0 from a network in EDM's preconditioning.

    Parameters
    ----------
    out, x, alpha, sigma
        See `epsilon`.

    Returns
    -------
    Tensor
        E[x_0 | x_t], (N, D).

    References
    ----------
    Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364

    Examples
    --------
    Without noise, x0 is x_t whatever the network predicts:

    >>> import torch
    >>> karras(*torch.tensor([7.0, 2.0, 1.0, 0.0]))
    tensor(2.)
    """
    r = torch.hypot(alpha, sigma)
    return alpha * x / r**2 + sigma / r * out


def score_weight(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The weight of the loss that corresponds to the score's lambda = sigma^2.

    Parameters
    ----------
    alpha, sigma
        Signal and noise level.

    Returns
    -------
    Tensor
        alpha^2 / sigma^2.

    Examples
    --------
    >>> import torch
    >>> score_weight(*torch.tensor([1.0, 0.5]))
    tensor(4.)
    """
    return (alpha / sigma) ** 2


def karras_weight(alpha: Tensor, sigma: Tensor) -> Tensor:
    """EDM's weight of the loss.

    Parameters
    ----------
    alpha, sigma
        Signal and noise level.

    Returns
    -------
    Tensor
        1 + alpha^2 / sigma^2.

    Examples
    --------
    >>> import torch
    >>> karras_weight(*torch.tensor([1.0, 0.5]))
    tensor(5.)
    """
    return 1 + (alpha / sigma) ** 2


class Denoiser(nn.Module):
    """x0 = E[x_0 | x_t, c] by a network, and its loss.

    Called with x (N, D), t (N,) or (), and c (N, C) or None, returns x0 (N, D).

    Parameters
    ----------
    network
        Function (x, t, c, drop) -> (N, D), such as a `FiLMNetwork`.
    noise
        Schedule of alpha and sigma.
    read
        How x0 follows from the output: `epsilon`, `clean`, `velocity` or `karras`.
    weight
        Weight of the loss: `score_weight` or `karras_weight`.
    dropout
        Share of conditions that training drops, so that the network is unconditional too.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.diffusion import EDM
    >>> from pgm_expr.nn import FiLMNetwork
    >>> denoise = Denoiser(FiLMNetwork(size=3), EDM())
    >>> x = torch.randn(5, 3)
    >>> denoise(x, torch.tensor(1.0)).shape, denoise.loss(x).shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        network: nn.Module,
        noise: Noise,
        *,
        read: Callable = karras,
        weight: Callable = karras_weight,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.noise, self.read = network, noise, read
        self.weight, self.dropout = weight, dropout

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times t (N,) or (), (N, 1) each."""
        t = t.reshape(-1, 1)
        return self.noise.alpha(t), self.noise.sigma(t)

    def forward(
        self, x: Tensor, t: Tensor, c: Tensor | None = None, drop: Tensor | None = None
    ) -> Tensor:
        alpha, sigma = self.levels(t)
        level = (sigma / alpha).log().squeeze(-1) / LEVEL
        out = self.network(x / torch.hypot(alpha, sigma), level, c, drop)
        return self.read(out, x, alpha, sigma)

    def epsilon(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """The noise in x (N, D) at time t: (x - alpha x0) / sigma."""
        alpha, sigma = self.levels(t)
        return (x - alpha * self(x, t, c)) / sigma

    def score(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """The gradient of log p_t at x (N, D): -epsilon / sigma."""
        _, sigma = self.levels(t)
        return -self.epsilon(x, t, c) / sigma

    def loss(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """The weighted squared error, (N,), of states z (N, D), at one random time each."""
        t = self.noise.draw(len(z)).to(z)
        alpha, sigma = self.levels(t)
        x = alpha * z + sigma * torch.randn_like(z)
        drop = torch.rand_like(t) < self.dropout
        apart = (self(x, t, c, drop) - z) ** 2
        return (self.weight(alpha, sigma) * apart).sum(-1)
