r"""The Poisson distribution by log mean."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.distributions import constraints

from . import sparse


class Poisson(TorchDistribution):
    r"""Counts with mean and variance m = exp(log_mean):  p(x) = m^x exp(-m) / x!.

    The limit of `NegativeBinomial` as its dispersion theta grows. Event shape is ();
    second derivatives of `log_prob` are refused by autograd (RuntimeError).
    """

    arg_constraints = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean = log_mean
        super().__init__(log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> Poisson:
        new = self._get_checked_instance(Poisson, _instance)
        new.log_mean = self.log_mean.expand(batch_shape)
        super(Poisson, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return _LogProb.apply(*torch.broadcast_tensors(value, self.log_mean))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        rate = self.log_mean.double().exp().expand(self._extended_shape(sample_shape))
        return torch.poisson(rate).to(self.log_mean.dtype)


class _LogProb(torch.autograd.Function):
    """log p(x) and its gradient x - m in log_mean; both arguments of one shape."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, log_mean: Tensor) -> Tensor:
        mean = log_mean.exp()
        ctx.save_for_backward(x, mean)
        where = sparse.positive(x)
        count, rate = (tensor.reshape(-1)[where].double() for tensor in (x, log_mean))
        values = -count * sparse.deviance(rate - count.log()) - 0.5 * count.log()
        values = values - sparse.HALF_LOG_TWO_PI - sparse.stirling(count)
        return sparse.place(-mean, where, values, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor]:
        x, mean = ctx.saved_tensors
        return None, grad * (x - mean)
