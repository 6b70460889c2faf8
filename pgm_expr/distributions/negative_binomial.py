r"""The negative binomial by log mean m and log dispersion theta: variance m + m^2 / theta."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.distributions import constraints
from torch.nn.functional import softplus

from . import sparse


class NegativeBinomial(TorchDistribution):
    r"""Counts with mean m = exp(log_mean), theta = exp(log_dispersion), variance m + m^2 / theta.

        p(x) = Gamma(x + theta) / (Gamma(theta) x!) (theta / (theta + m))^theta (m / (theta + m))^x

    It is the Gamma-Poisson mixture x ~ Poisson(l), l ~ Gamma(theta, theta / m), and the Poisson
    distribution as theta grows. Everything works in logs: nothing underflows for means down to 0
    and up to 1e8, and theta from 1e-8 to 1e8; `log_prob` is accurate to float rounding there.

    Shapes: parameters broadcast against each other and the value; event shape is ().
    Second derivatives of `log_prob` are refused by autograd (RuntimeError).
    """

    arg_constraints = {"log_mean": constraints.real, "log_dispersion": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(
        self, log_mean: Tensor, log_dispersion: Tensor, validate_args: bool | None = None
    ) -> None:
        self.log_mean, self.log_dispersion = torch.broadcast_tensors(log_mean, log_dispersion)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> NegativeBinomial:
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
        return _LogProb.apply(*torch.broadcast_tensors(value, self.log_mean, self.log_dispersion))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        theta = self.log_dispersion.double().exp().expand(shape)
        # for tiny theta almost every gamma draw underflows to 0, and so does the count
        rate = torch._standard_gamma(theta) * (self.log_mean - self.log_dispersion).double().exp()
        return torch.poisson(rate).to(self.log_mean.dtype)


class _LogProb(torch.autograd.Function):
    """log p(x) and its gradient in (log_mean, log_dispersion); all arguments of one shape."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
        logits = log_mean - log_dispersion
        theta = sparse.distinct(log_dispersion).exp()
        value = -theta * softplus(logits, threshold=40)  # log p(0)
        where = sparse.positive(x)
        entries = _Positive(where, x, log_mean, log_dispersion)
        if any(ctx.needs_input_grad):
            by_mean = -theta * torch.sigmoid(logits)
            by_dispersion = value - by_mean
            mean_part, dispersion_part = entries.gradient()
            sparse.place(by_mean, where, mean_part, x)
            sparse.place(by_dispersion, where, dispersion_part, x)
            ctx.save_for_backward(by_mean, by_dispersion)
        return sparse.place(value, where, entries.log_prob(), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        by_mean, by_dispersion = ctx.saved_tensors
        return None, grad * by_mean, grad * by_dispersion


class _Positive:
    """The formulas at x > 0, in float64, with terms of the size of the result whatever theta.

    With t = log(m / x) and u = log((m + theta) / (x + theta)):

        log p(x) = x t - (x + theta) u - log(2 pi x (x + theta) / theta) / 2
                   + stirling(x + theta) - stirling(theta) - stirling(x)
    """

    def __init__(
        self, where: tuple[Tensor, ...], x: Tensor, log_mean: Tensor, log_dispersion: Tensor
    ) -> None:
        theta = sparse.distinct(log_dispersion).double().exp()

        def gather(parameter: Tensor) -> Tensor:
            return parameter.expand_as(x)[where]

        self.x, self.log_mean = gather(x).double(), gather(log_mean).double()
        self.theta, self.stirling = gather(theta), gather(sparse.stirling(theta))
        self.tail = gather(sparse.digamma_tail(theta))
        self.mean, self.total = self.log_mean.exp(), self.x + self.theta
        self.shift = (self.mean - self.x) / self.total
        far = ((self.mean + self.theta) / self.total).log()
        self.log_ratio = torch.where(
            self.shift.abs() < 0.5, torch.log1p(self.shift.clamp(min=-0.5)), far
        )

    def log_prob(self) -> Tensor:
        x, theta, total = self.x, self.theta, self.total
        log_x = x.log()
        log_rate = self.log_mean - log_x
        near = total * sparse.deviance(self.log_ratio) - x * sparse.deviance(log_rate)
        share = -torch.log1p(-self.shift * theta / self.mean)  # log_rate - log_ratio
        power = torch.where(log_rate.abs() < 1, near, x * share - theta * self.log_ratio)
        width = 0.5 * (log_x + (total / theta).log()) + sparse.HALF_LOG_TWO_PI
        return power - width + sparse.stirling(total) - self.stirling - sparse.stirling(x)

    def gradient(self) -> tuple[Tensor, Tensor]:
        by_mean = (self.x - self.mean) * self.theta / (self.mean + self.theta)
        change = sparse.digamma_tail(self.total) - self.tail - self.log_ratio
        return by_mean, self.theta * change - by_mean
