r"""Log-probabilities of sparse counts: the long formula is paid for positive counts only.

Most entries of a count matrix are 0, where every lgamma difference vanishes. A count distribution
here is a pair of formulas, one at zero (dense, in the dtype of the parameters) and one at positive
counts (float64, because large terms cancel there), each with its gradient in closed form.

The positive formulas use Loader's deviance, which stays accurate where log-gamma functions cancel:

    deviance(t) = exp(t) - 1 - t,            so  x * deviance(log(m / x)) = m - x + x log(x / m)
    stirling(z) = lgamma(z) - (z - 1/2) log z + z - log(2 pi) / 2   the error of Stirling's formula

Loader, Fast and Accurate Computation of Binomial Probabilities, 2000,
https://www.r-project.org/doc/reports/CLoader-dbinom-2002.pdf
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
SERIES_FROM = 16.0  # the five-term series below is exact to 1e-17 from here


def everywhere(x: Tensor) -> bool:
    """Whether every entry is treated as positive: on an accelerator, and while a graph is traced.

    On an accelerator a shape that depends on the data would force a synchronisation, and lgamma is
    cheap. In a traced graph the shapes of one minibatch would be those of all.
    """
    return x.device.type != "cpu" or torch.jit.is_tracing()


def positive(x: Tensor) -> Tensor:
    """Flat positions of the positive counts, or of all counts where that is cheaper."""
    if everywhere(x):
        return torch.arange(x.numel(), device=x.device)
    return (x.reshape(-1) > 0).nonzero().squeeze(-1)


def place(dense: Tensor, where: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Write `values` into `dense` at the flat positions `where`, as far as `x` > 0 there."""
    values = values.to(dense.dtype)
    if everywhere(x):
        return torch.where(x > 0, values.view_as(dense), dense)
    return dense.contiguous().view(-1).index_copy_(0, where, values).view_as(dense)


def distinct(parameter: Tensor) -> Tensor:
    """The entries of an expanded tensor without its repetitions: (G,) parameters stay (1, G)."""
    return parameter[tuple(slice(None if step else 1) for step in parameter.stride())]


def owner(parameter: Tensor, where: Tensor) -> Tensor:
    """For each flat position, the flat position in `distinct(parameter)` it is expanded from."""
    entries = distinct(parameter)
    if not any(parameter.stride()[:-1]):  # one a gene, the usual case
        return where % entries.numel()
    numbers = torch.arange(entries.numel(), device=where.device).view(entries.shape)
    return numbers.expand(parameter.shape).reshape(-1)[where]


def deviance(t: Tensor) -> Tensor:
    """exp(t) - 1 - t, not less than 0."""
    return torch.expm1(t) - t


def stirling(z: Tensor) -> Tensor:
    """The error of Stirling's approximation of lgamma(z), for z > 0."""
    inverse = 1 / z.clamp(min=SERIES_FROM)
    square = inverse * inverse
    series = inverse * (
        1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    )
    small = z.clamp(max=SERIES_FROM)
    exact = torch.lgamma(small) - (small - 0.5) * small.log() + small - HALF_LOG_TWO_PI
    return torch.where(z < SERIES_FROM, exact, series)


def digamma_tail(z: Tensor) -> Tensor:
    """digamma(z) - log(z), for z > 0; differences of it do not cancel at large z."""
    inverse = 1 / z.clamp(min=SERIES_FROM)
    square = inverse * inverse
    series = -inverse / 2 - square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132)))
    )
    small = z.clamp(max=SERIES_FROM)
    return torch.where(z < SERIES_FROM, torch.digamma(small) - small.log(), series)
