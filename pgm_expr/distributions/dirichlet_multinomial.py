r"""The Dirichlet-multinomial by log concentrations: a whole profile given its total."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad
from torch.types import _size

from . import sparse

SMALLEST = -300.0  # log concentrations below act as this one: 1 / a^2 must stay finite


class DirichletMultinomial(TorchDistribution):
    r"""Counts x (G,) of a given total n: x ~ Multinomial(n, p), p ~ Dirichlet(a).

        p(x) = n! Gamma(A) / Gamma(n + A) prod_g Gamma(x_g + a_g) / (Gamma(a_g) x_g!)

    with a = exp(log_concentration) and A = sum_g a_g; the mean is n a / A, and the multinomial
    is its limit for large A. `log_prob` is computed in float64.

    Parameters
    ----------
    log_concentration
        (..., G).
    total
        Sum of the counts, (...), which may differ by cell. Batch shapes broadcast; the event
        shape is (G,).
    validate_args
        Check parameters and values, among them that counts add up to the total; None follows the
        default of `torch.distributions`.

    Raises
    ------
    ValueError
        By `log_prob`, if arguments are validated and counts do not add up to the total.

    Examples
    --------
    >>> import torch
    >>> d = DirichletMultinomial(torch.tensor([1.0, 2.0, 1.0]).log(), torch.tensor(8.0))
    >>> d.mean
    tensor([2., 4., 2.])
    >>> d.sample((5,)).sum(-1)
    tensor([8., 8., 8., 8., 8.])
    """

    arg_constraints = {
        "log_concentration": constraints.real_vector,
        "total": constraints.nonnegative,
    }
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(
        self, log_concentration: Tensor, total: Tensor, validate_args: bool | None = None
    ) -> None:
        shape = torch.broadcast_shapes(log_concentration.shape[:-1], total.shape)
        event = log_concentration.shape[-1:]
        self.log_concentration = log_concentration.expand(shape + event)
        self.total = total.expand(shape)
        super().__init__(shape, event, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> DirichletMultinomial:
        new = self._get_checked_instance(DirichletMultinomial, _instance)
        shape = torch.Size(batch_shape)
        new.log_concentration = self.log_concentration.expand(shape + self.event_shape)
        new.total = self.total.expand(shape)
        super(DirichletMultinomial, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self.total.unsqueeze(-1) * self.log_concentration.softmax(-1)

    @property
    def variance(self) -> Tensor:
        n, share = self.total.unsqueeze(-1), self.log_concentration.softmax(-1)
        whole = self.log_concentration.logsumexp(-1, keepdim=True).exp()  # A
        return n * share * (1 - share) * (n + whole) / (1 + whole)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
            off = (value.double().sum(-1) - self.total).abs()
            if (off > 0.5 + 1e-6 * self.total).any():  # float32 totals are exact to 1e-7
                raise ValueError(
                    "counts must add up to the distribution's total in every cell: "
                    f"found a difference of {off.max().item():g}. "
                    "Pass as library the sum of the same counts."
                )
        x, log_each = torch.broadcast_tensors(value, self.log_concentration)
        whole = self.log_concentration.double().logsumexp(-1).exp()  # A
        n = self.total.double()
        of_total = torch.lgamma(n + 1) - log_rising(whole, n)
        return (of_total + _positive_terms(x, log_each)).to(log_each.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        shape = self._extended_shape(sample_shape)
        each = self.log_concentration.double().clamp(min=SMALLEST).exp().expand(shape)
        # Gamma(a) draws in logs, which don't underflow: Gamma(a + 1) times U^(1 / a)
        log_gamma = torch._standard_gamma(each + 1).log() + torch.rand_like(each).log() / each
        total = self.total.double().round().expand(shape[:-1])
        return multinomial(total, log_gamma.softmax(-1)).to(self.log_concentration.dtype)


def _positive_terms(x: Tensor, log_concentration: Tensor) -> Tensor:
    """sum_g log(Gamma(x_g + a_g) / (Gamma(a_g) x_g!)) of each row: nothing where x_g = 0."""
    where = sparse.positive(x)
    count = x.reshape(-1)[where].double()
    each = log_concentration.reshape(-1)[where].double().clamp(min=SMALLEST).exp()
    terms = log_rising(each, count) - torch.lgamma(count + 1)
    rows = terms.new_zeros(x.shape[:-1]).reshape(-1)
    return rows.index_add(0, where // x.shape[-1], terms).view(x.shape[:-1])


def log_rising(a: Tensor, x: Tensor) -> Tensor:
    """log(Gamma(a + x) / Gamma(a)) for x >= 0, without cancellation at large a."""
    change = sparse.stirling(a + x) - sparse.stirling(a)
    return (a - 0.5) * torch.log1p(x / a) - x + x * (a + x).log() + change


def multinomial(total: Tensor, share: Tensor) -> Tensor:
    """Draws (..., G) for totals (...) and shares (..., G) that add up to 1, of any total.

    A tree of conditional binomials: each node's count splits between the two halves below it,
    so that G categories take log2(G) draws over all cells at once.
    """
    genes = share.shape[-1]
    sums = [pad(share, (0, 2 ** (genes - 1).bit_length() - genes))]
    while sums[-1].shape[-1] > 1:
        sums.append(sums[-1].unflatten(-1, (-1, 2)).sum(-1))
    counts = total.unsqueeze(-1)
    for leaves in reversed(sums[:-1]):
        left, right = leaves.unflatten(-1, (-1, 2)).unbind(-1)
        fraction = left / (left + right).clamp(min=torch.finfo(left.dtype).tiny)
        drawn = torch.binomial(counts, fraction)
        counts = torch.stack([drawn, counts - drawn], -1).flatten(-2)
    return counts[..., :genes]
