r"""A neural spline flow: states through invertible splines, with an exact density.

    u = f(x; c),  u ~ Normal(0, I)
    log p(x | c) = log Normal(f(x; c); 0, I) + log |det df/dx|

Each of the composed maps is autoregressive: u_d is a monotonic rational-quadratic spline of x_d
whose knots a masked network finds from x_<d and c; the order turns from map to map. Splines act
within [-5, 5] and are the identity outside, which standardised states seldom reach. A density
takes one pass of each map, a draw D.

Durkan et al., Neural Spline Flows, NeurIPS 2019, https://arxiv.org/abs/1906.04032
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..nn import check_condition, learn_standardised, spline_map
from ..nn.learn import Draw


class SplineFlow(nn.Module):
    """States z (N, D), under conditions (N, C) where it has any: then each call needs them."""

    def __init__(
        self,
        size: int,
        conditions: int = 0,
        *,
        transforms: int = 3,
        hidden: int = 64,
        layers: int = 2,
        bins: int = 8,
    ) -> None:
        super().__init__()
        self.size, self.conditions = size, conditions
        self.map = spline_map(
            size, conditions, transforms=transforms, hidden=hidden, layers=layers, bins=bins
        )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(
        self,
        posterior: Draw,
        condition: Tensor | None = None,
        *,
        steps: int = 2000,
        seed: int = 0,
        **learning: float,
    ) -> Iterator[float]:
        """Train in place on draws (N, D) of `posterior()`; yields each epoch's mean loss, in nats.

        `learning` goes to `nn.learn`. Its units are those of the first draw.
        """
        return learn_standardised(
            self, self.loss, posterior, condition, steps=steps, seed=seed, **learning
        )

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """-log p(x | c), (N,), of standardised states x (N, D)."""
        u, log_det = self.map(c).call_and_ladj(x)
        return -torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1) - log_det

    def sample(self, n: int, condition: Tensor | None = None) -> Tensor:
        """States (n, D), row i under row i of `condition` (n, C)."""
        return self.decode(torch.randn(n, self.size).to(self.mean), condition)

    def log_prob(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(z | c), (N,), of z (N, D): exact, and with gradients."""
        check_condition(condition, len(z), self.conditions)
        return -self.loss((z - self.mean) / self.scale, condition) - self.scale.log().sum()

    @torch.no_grad()
    def encode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The noise u (N, D) of states z (N, D)."""
        check_condition(condition, len(z), self.conditions)
        return self.map(condition)((z - self.mean) / self.scale)

    @torch.no_grad()
    def decode(self, u: Tensor, condition: Tensor | None = None) -> Tensor:
        """The states (N, D) of noise u (N, D)."""
        check_condition(condition, len(u), self.conditions)
        return self.mean + self.scale * self.map(condition).inv(u)
