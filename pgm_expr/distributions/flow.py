r"""Normalising flows: a base distribution pushed through a learned, invertible map.

z = f(u),  u ~ base,  log p(z) = log base(u) - log |det df/du|
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Transform, constraints


class Flow(dist.TorchDistribution):
    """The distribution of f(u): give the direction of the map that runs in one pass.

    `push` maps base to value (fast draws), `pull` value to base (fast densities); the missing one
    is the other's inverse, of D passes. The density of the last draw is remembered, but never
    copied, and not used where it has no gradient and one is wanted.
    """

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        base: dist.TorchDistribution,
        push: Transform | None = None,
        pull: Transform | None = None,
    ) -> None:
        self.base, self.push, self.pull = base, push, pull
        self._last: tuple[Tensor | None, Tensor | None] = (None, None)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> Flow:
        return Flow(self.base.expand(batch_shape), self.push, self.pull)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        u = self.base.rsample(sample_shape)
        value, ladj = (self.push or self.pull.inv).call_and_ladj(u)
        self._last = value, self.base.log_prob(u) - ladj
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        drawn, log_prob = self._last
        if value is drawn and (log_prob.requires_grad or not torch.is_grad_enabled()):
            return log_prob
        u, ladj = (self.pull or self.push.inv).call_and_ladj(value)
        return self.base.log_prob(u) + ladj

    def __getstate__(self) -> dict:
        """A copy has drawn nothing: its parameters may have been detached."""
        return self.__dict__ | {"_last": (None, None)}
