r"""The negative binomial, by log mean and log dispersion: variance m + m^2 / theta."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints
from torch.nn.functional import softplus
from torch.types import _size

from . import sparse

TABLE = 8  # counts from 1 to here use a lookup table: most positive counts of single cells


class NegativeBinomial(TorchDistribution):
    r"""Counts with mean m = exp(log_mean), theta = exp(log_dispersion), variance m + m^2 / theta.

        p(x) = Gamma(x + theta) / (Gamma(theta) x!) (theta / (theta + m))^theta (m / (theta + m))^x

    It is the Gamma-Poisson mixture x ~ Poisson(l), l ~ Gamma(theta, theta / m), and becomes the
    Poisson distribution as theta grows. `log_prob` is computed in logs and accurate to float
    rounding for any mean up to 1e8 and for theta from 1e-8 to 1e8.

    Parameters
    ----------
    log_mean, log_dispersion
        Log mean and log dispersion; they broadcast against each other. The event shape is ().
    validate_args
        Check parameters and values; None follows the default of `torch.distributions`.

    Raises
    ------
    RuntimeError
        If autograd takes second derivatives of `log_prob`.

    Examples
    --------
    >>> import torch
    >>> d = NegativeBinomial(torch.tensor(10.0).log(), torch.tensor(2.0).log())
    >>> round(d.mean.item(), 3), round(d.variance.item(), 3)
    (10.0, 60.0)
    >>> d.log_prob(torch.tensor(0.0)).exp()  # (2 / 12)^2
    tensor(0.0278)
    """

    arg_constraints = {"log_mean": constraints.real, "log_dispersion": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(
        self, log_mean: Tensor, log_dispersion: Tensor, validate_args: bool | None = None
    ) -> None:
        self.log_mean, self.log_dispersion = torch.broadcast_tensors(log_mean, log_dispersion)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> NegativeBinomial:
        new = self._get_checked_instance(NegativeBinomial, _instance)
        new.log_mean = self.log_mean.expand(batch_shape)
        new.log_dispersion = self.log_dispersion.expand(batch_shape)
        super(NegativeBinomial, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + (2 * self.log_mean - self.log_dispersion).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        whole = torch.broadcast_tensors(value, self.log_mean, self.log_dispersion)
        gradient = torch.is_grad_enabled() or torch.jit.is_tracing()  # a traced graph serves both
        return _LogProb.apply(*whole, gradient)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        theta = self.log_dispersion.double().exp().expand(shape)
        # for tiny theta almost every gamma draw underflows to 0, and so does the count
        rate = torch._standard_gamma(theta) * (self.log_mean - self.log_dispersion).double().exp()
        return torch.poisson(rate).to(self.log_mean.dtype)


class _LogProb(torch.autograd.Function):
    """log p(x) and its gradient in (log_mean, log_dispersion); all arguments of one shape.

    log p(0) is computed for every entry. Small positive counts add a tabulated term to it; large
    counts replace it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, log_mean: Tensor, log_dispersion: Tensor, gradient: bool
    ) -> Tensor:
        theta = sparse.distinct(log_dispersion).exp()
        small, large = _small_and_large(x, theta)
        logits = (log_mean - log_dispersion).contiguous()  # indexed by flat position below
        log_gain = softplus(logits, threshold=40)  # log(1 + m / theta)
        added = (
            _at_small(small, x, log_mean, log_dispersion, log_gain) if small is not None else ()
        )
        value = log_gain.mul_(-theta)  # in place: fresh memory costs more than arithmetic here
        dense = [value]
        if gradient:
            by_mean = logits.sigmoid_().mul_(-theta)
            dense += [by_mean, value - by_mean]
        if small is not None:
            for whole, term in zip(dense, added, strict=False):
                whole.view(-1).index_add_(0, small, term)
        if sparse.everywhere(x) or len(large):
            exact = _at_large(large, x, log_mean, log_dispersion)
            dense = [sparse.place(d, large, e, x) for d, e in zip(dense, exact, strict=False)]
        ctx.save_for_backward(*dense[1:])
        return dense[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        by_mean, by_dispersion = ctx.saved_tensors
        return None, grad * by_mean, grad * by_dispersion, None


def _small_and_large(x: Tensor, theta: Tensor) -> tuple[Tensor | None, Tensor]:
    """Flat positions of positive counts: those in the table, if one is used, and the others."""
    where = sparse.positive(x)
    if sparse.everywhere(x) or theta.numel() * TABLE > 4 * len(where):
        return None, where
    small = x.reshape(-1)[where] <= TABLE
    return where[small], where[~small]


def _at_small(
    where: Tensor, x: Tensor, log_mean: Tensor, log_dispersion: Tensor, log_gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms that counts of 1 .. TABLE add to log p(0) and to its gradient.

    log p(x) - log p(0) = sum_{j<x} log((1 + j / theta) / (j + 1)) + x log(m / (1 + m / theta))
    """
    theta = sparse.distinct(log_dispersion).double().exp().reshape(1, -1)
    steps = torch.arange(TABLE, dtype=torch.double, device=x.device).view(-1, 1)
    ratio = steps / theta  # (TABLE, theta.numel())
    rising = (torch.log1p(ratio) - (steps + 1).log()).cumsum(0).to(log_gain.dtype)
    digammas = (1 / (1 + ratio)).cumsum(0).to(log_gain.dtype)
    count = x.reshape(-1)[where].to(log_gain.dtype)
    row = (count.long() - 1) * theta.numel() + sparse.owner(log_dispersion, where)
    log_mean, log_gain = log_mean.reshape(-1)[where], log_gain.view(-1)[where]
    logits = log_mean - log_dispersion.expand_as(x).reshape(-1)[where]
    by_mean = count * torch.sigmoid(-logits)
    value = rising.view(-1)[row] + count * (log_mean - log_gain)
    return value, by_mean, digammas.view(-1)[row] - by_mean


def _at_large(
    where: Tensor, x: Tensor, log_mean: Tensor, log_dispersion: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x) and its gradient at x > 0, in float64, accurate for all theta and x.

    With t = log(m / x) and u = log((m + theta) / (x + theta)):

        log p(x) = x t - (x + theta) u - log(2 pi x (x + theta) / theta) / 2
                   + stirling(x + theta) - stirling(theta) - stirling(x)
    """
    x, log_mean = (tensor.reshape(-1)[where].double() for tensor in (x, log_mean))
    gene = sparse.owner(log_dispersion, where)
    thetas = sparse.distinct(log_dispersion).double().exp().reshape(-1)
    theta, mean, log_x = thetas[gene], log_mean.exp(), x.log()
    total = x + theta
    shift = (mean - x) / total
    u = _log_ratio(shift, (mean + theta) / total)
    near = total * sparse.deviance(u) - x * sparse.deviance(log_mean - log_x)
    apart = -x * torch.log1p(-shift * theta / mean) - theta * u  # log1p(...) is u - t
    value = (
        torch.where((log_mean - log_x).abs() < 1, near, apart)
        - 0.5 * (log_x + (total / theta).log())
        - sparse.HALF_LOG_TWO_PI
        + sparse.stirling(total)
        - sparse.stirling(thetas)[gene]
        - sparse.stirling(x)
    )
    by_mean = (x - mean) * theta / (mean + theta)
    change = sparse.digamma_tail(total) - sparse.digamma_tail(thetas)[gene] - u
    return value, by_mean, theta * change - by_mean


def _log_ratio(shift: Tensor, ratio: Tensor) -> Tensor:
    """log(ratio) for ratio = 1 + shift, through log1p where it is near 1."""
    return torch.where(shift.abs() < 0.5, torch.log1p(shift.clamp(min=-0.5)), ratio.log())
