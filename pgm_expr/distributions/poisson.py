r"""The Poisson distribution by log mean."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints
from torch.types import _size

from . import sparse


class Poisson(TorchDistribution):
    r"""Counts with mean and variance m = exp(log_mean):  p(x) = m^x exp(-m) / x!.

    The limit of `NegativeBinomial` as its dispersion theta grows.

    Parameters
    ----------
    log_mean
        Log mean, of any shape; the event shape is ().
    validate_args
        Check parameters and values; None follows the default of `torch.distributions`.

    Raises
    ------
    RuntimeError
        By autograd, for second derivatives of `log_prob`.

    Examples
    --------
    >>> import torch
    >>> d = Poisson(torch.tensor(3.0).log())
    >>> d.log_prob(torch.arange(200.0)).exp().sum().isclose(torch.tensor(1.0))
    tensor(True)
    """

    arg_constraints = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean = log_mean
        super().__init__(log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> Poisson:
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
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        rate = self.log_mean.double().exp().expand(self._extended_shape(sample_shape))
        return torch.poisson(rate).to(self.log_mean.dtype)


class _LogProb(torch.autograd.Function):
    """log p(x) and its gradient x - m in log_mean; both arguments of one shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mean: Tensor) -> Tensor:
        mean = log_mean.exp()
        ctx.save_for_backward(x, mean)
        where = sparse.positive(x)
        count, rate = (tensor.reshape(-1)[where].double() for tensor in (x, log_mean))
        values = -count * sparse.deviance(rate - count.log()) - 0.5 * count.log()
        values = values - sparse.HALF_LOG_TWO_PI - sparse.stirling(count)
        return sparse.place(-mean, where, values, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        x, mean = ctx.saved_tensors
        return None, grad * (x - mean)
