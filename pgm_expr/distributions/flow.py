r"""Normalising flows: a base distribution pushed through a learned, invertible map.

    z = f(u),  u ~ base,  log p(z) = log base(u) - log |det df/du|

Rezende and Mohamed, ICML 2015, https://arxiv.org/abs/1505.05770
"""

from __future__ import annotations

from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.types import _size


class Map(Protocol):
    """An invertible map of vectors, such as those of Zuko."""

    @property
    def inv(self) -> Map: ...

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of x (..., D) and the log absolute determinant of the Jacobian, (...)."""


class Flow(dist.TorchDistribution):
    """The distribution of z = f(u), u ~ base, given the direction of f that takes one pass.

    The other direction is its inverse, which takes D passes. The density of the last draw is
    kept, so that a draw and its own density take one pass together; a copy of the distribution
    forgets it, and it is not used where a gradient is required that it lacks.

    Parameters
    ----------
    base
        Distribution of u, of event shape (D,).
    push
        Map from u to z: fast draws, slow densities.
    pull
        Map from z to u: fast densities, slow draws. Pass one of the two.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.nn import affine_map, near_identity
    >>> base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> flow = Flow(base, push=near_identity(affine_map(2))(None))
    >>> z = flow.rsample((10,))
    >>> z.shape, flow.log_prob(z).shape
    (torch.Size([10, 2]), torch.Size([10]))
    """

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        base: dist.TorchDistribution,
        push: Map | None = None,
        pull: Map | None = None,
    ) -> None:
        self.base, self.push, self.pull = base, push, pull
        self._last: tuple[Tensor | None, Tensor | None] = (None, None)  # a draw and its density
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: _size, _instance: object = None) -> Flow:
        return Flow(self.base.expand(batch_shape), self.push, self.pull)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        u = self.base.rsample(sample_shape)
        value, ladj = (self.push or _inverse(self.pull)).call_and_ladj(u)
        self._last = value, self.base.log_prob(u) - ladj
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        drawn, log_prob = self._last
        if value is drawn and log_prob is not None:
            if log_prob.requires_grad or not torch.is_grad_enabled():
                return log_prob
        u, ladj = (self.pull or _inverse(self.push)).call_and_ladj(value)
        return self.base.log_prob(u) + ladj

    def __getstate__(self) -> dict:
        """A copy has no last draw: its parameters may be detached."""
        return self.__dict__ | {"_last": (None, None)}


def _inverse(other: Map | None) -> Map:
    if other is None:
        raise ValueError("a Flow has neither push nor pull. Pass one of them.")
    return other.inv
