r"""Normalising flows: a base distribution pushed through a learned, invertible map.

    z = f(u),  u ~ base,  log p(z) = log base(u) - log |det df/du|

The maps are Zuko's, https://zuko.readthedocs.io
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints

_checks = Distribution._validate_args
from zuko import flows  # noqa: E402  switches torch's checks of arguments off for everyone
from zuko.transforms import ComposedTransform  # noqa: E402

Distribution.set_default_validate_args(_checks)

__all__ = ["ComposedTransform", "Flow", "affine_map", "spline_map"]


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


def affine_map(latent: int, *, transforms: int, hidden: int, context: int = 0) -> nn.Module:
    """z_d = shift_d(u_<d) + exp(log_scale_d(u_<d)) u_d, `transforms` times in turned order."""
    return _near_identity(flows.MAF(latent, context, transforms, **_network(hidden)).transform)


def spline_map(latent: int, *, transforms: int, hidden: int, context: int = 0) -> nn.Module:
    """Monotonic splines of u_d within [-5, 5], given u_<d; the identity outside."""
    return _near_identity(
        flows.NSF(latent, context, transforms=transforms, **_network(hidden)).transform
    )


def _network(hidden: int) -> dict:
    """Smooth, so that the density is."""
    return {"hidden_features": (hidden, hidden), "activation": nn.SiLU}


def _near_identity(composed: nn.Module) -> nn.Module:
    """Shrink each map's read-out, or in one dimension its numbers; gradients stay alive."""
    for transform in composed.transforms:
        readout = transform.hyper[-1] if hasattr(transform, "hyper") else transform
        for parameter in readout.parameters():
            parameter.data *= 0.1
    return composed
