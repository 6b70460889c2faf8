r"""Detection: whether a Poisson count is above 0, by its log mean."""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.types import _size


class Detection(TorchDistribution):
    r"""P(x > 0) = 1 - exp(-m), m = exp(log_mean): Bernoulli with a complementary log-log link.

    `log_prob` depends on x > 0 only, so counts may be passed as they are; draws are 0 or 1.
    It is computed in logs: log P(x > 0) -> log_mean as the mean vanishes.

    Parameters
    ----------
    log_mean
        Log mean of the Poisson count, of any shape; the event shape is ().
    validate_args
        Check parameters and values; None follows the default of `torch.distributions`.

    Examples
    --------
    >>> import torch
    >>> d = Detection(torch.tensor([0.0, -20.0]))
    >>> d.mean  # 1 - exp(-1), and about exp(-20)
    tensor([6.3212e-01, 2.0612e-09])
    >>> bool(d.log_prob(torch.tensor([1.0, 3.0]))[1].isclose(torch.tensor(-20.0)))
    True
    """

    arg_constraints = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean = log_mean
        super().__init__(log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> Detection:
        new = self._get_checked_instance(Detection, _instance)
        new.log_mean = self.log_mean.expand(batch_shape)
        super(Detection, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return -torch.expm1(-self.log_mean.exp())

    @property
    def variance(self) -> Tensor:
        return self.mean * (-self.log_mean.exp()).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value > 0, log_detected(self.log_mean), -self.log_mean.exp())

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        return torch.bernoulli(self.mean.expand(self._extended_shape(sample_shape)))


def log_detected(log_mean: Tensor) -> Tensor:
    """log(1 - exp(-m)) in three ranges of m, each branch at arguments where it is accurate."""
    tiny, large = log_mean < -6, log_mean > math.log(math.log(2))
    mean = log_mean.exp()
    series = log_mean - mean / 2 + mean.clamp(max=1).square() / 24
    middle = (-torch.expm1(-log_mean.clamp(min=-6, max=0).exp())).log()
    above = torch.log1p(-(-mean.clamp(min=0.5)).exp())
    return torch.where(tiny, series, torch.where(large, above, middle))
