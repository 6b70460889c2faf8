r"""Counts whose log values are Gaussian: a count has the mass of its interval of log values."""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.special import log_ndtr, ndtr
from torch.types import _size

from . import sparse

NARROW = 1e-3  # below it the midpoint formula's error is under 1e-13
SUMMED = 32  # counts below are summed one by one in the moments


class RoundedGaussian(TorchDistribution):
    r"""Counts x = round((exp(y) - 1) / unit), at least 0, with y ~ Normal(loc, scale^2).

        p(x) = Phi((y(x + 1/2) - loc) / scale) - Phi((y(x - 1/2) - loc) / scale)
        y(x) = log(1 + unit x),   and y(-1/2) = -inf: what is below 1/2 is 0

    `log_prob` is stable in both tails and for intervals of any width. `mean` and `variance` are
    sums over counts below SUMMED, and above it the lognormal's moments corrected for the rounding
    to second order: the relative error is below 1e-4.

    Parameters
    ----------
    loc, scale
        Mean and standard deviation of the log value y.
    unit
        Contribution of one count on the scale inside the logarithm: 1e4 / library for log values
        of counts per ten thousand. All three broadcast; the event shape is ().
    validate_args
        Check parameters and values; None follows the default of `torch.distributions`.

    Examples
    --------
    >>> import torch
    >>> d = RoundedGaussian(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0))
    >>> d.log_prob(torch.arange(1000.0)).exp().sum().isclose(torch.tensor(1.0))
    tensor(True)
    >>> d.log_prob(torch.tensor(0.0)).exp()  # y < log(3/2)
    tensor(0.6574)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "unit": constraints.positive,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self, loc: Tensor, scale: Tensor, unit: Tensor, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.unit = torch.broadcast_tensors(loc, scale, unit)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> RoundedGaussian:
        new = self._get_checked_instance(RoundedGaussian, _instance)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        super(RoundedGaussian, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self._moments()[0].to(self.loc.dtype)

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments()
        return (square - mean.square()).to(self.loc.dtype)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """E x and E x^2 in float64: sum_j P(x > j) and sum_j (2 j + 1) P(x > j), then the tail."""
        loc, scale, unit = (t.double() for t in (self.loc, self.scale, self.unit))

        def above(count: int, tilt: int = 0) -> Tensor:
            """E[exp(tilt y); x > count]."""
            edge = (torch.log1p(unit * (count + 0.5)) - loc) / scale
            growth = (tilt * loc + 0.5 * (tilt * scale) ** 2).exp()
            return growth * ndtr(tilt * scale - edge)

        zeroth, first, second = (above(SUMMED - 1, tilt) for tilt in range(3))
        edge = SUMMED - 0.5
        height = self._density(edge, loc, scale, unit) / 12
        mean = (first - zeroth) / unit + height
        square = (second - 2 * first + zeroth) / unit**2 + zeroth / 12 + 2 * edge * height
        for j in range(SUMMED - 1):
            more = above(j) - zeroth
            mean, square = mean + more, square + (2 * j + 1) * more
        return mean, square

    @staticmethod
    def _density(x: float, loc: Tensor, scale: Tensor, unit: Tensor) -> Tensor:
        """The density at x of the counts before rounding."""
        z = (torch.log1p(unit * x) - loc) / scale
        return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi) * unit / (scale * (1 + unit * x))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        x, *parameters = torch.broadcast_tensors(value, self.loc, self.scale, self.unit)
        where = sparse.positive(x)
        x_positive = x.reshape(-1)[where].double().clamp(min=1)
        positive = _log_mass(x_positive, *(p.reshape(-1)[where].double() for p in parameters))
        loc, scale, unit = parameters
        zero = log_ndtr((torch.log1p(0.5 * unit) - loc) / scale)
        if sparse.everywhere(x):
            return torch.where(x > 0, positive.view_as(zero).to(zero.dtype), zero)
        return zero.reshape(-1).index_copy(0, where, positive.to(zero.dtype)).view(x.shape)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=torch.double, device=self.loc.device)
        y = self.loc + self.scale * noise
        return (torch.expm1(y) / self.unit).round().clamp(min=0).to(self.loc.dtype)


def _log_mass(x: Tensor, loc: Tensor, scale: Tensor, unit: Tensor) -> Tensor:
    """log p(x) at x > 0, all in float64.

    The interval is mirrored to the left of the mean, where both cdfs keep their digits; narrow
    ones take the density at the midpoint c with its first correction,

        log p = log phi(c) + log w + w^2 (c^2 - 1) / 24 + ...
    """
    low = torch.log1p(unit * (x - 0.5))
    width = torch.log1p(unit / (1 + unit * (x - 0.5))) / scale
    middle = -((low - loc) / scale + width / 2).abs()
    narrow = width * (1 - middle) < NARROW
    safe = torch.where(narrow, torch.ones_like(width), width)
    upper, lower = log_ndtr(middle + safe / 2), log_ndtr(middle - safe / 2)
    wide = upper + (-torch.expm1(lower - upper)).log()
    density = -0.5 * (middle.square() + math.log(2 * math.pi)) + width.log()
    return torch.where(narrow, density + width.square() * (middle.square() - 1) / 24, wide)
