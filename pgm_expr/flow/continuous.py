r"""A continuous flow: noise carried to states by a velocity, learnt by maximum likelihood.

    dx/dt = v(x, t, c),  x_0 ~ Normal(0, I),  x_1 the state
    log p(x_1 | c) = log Normal(x_0; 0, I) - int_0^1 tr(dv/dx) dt

v is any network, for the solver inverts it; but one that steps can't follow would be trained on
errors of the solver. So time enters as it is, not by fast waves, and all is smooth.

A step of training solves back from x_1 by RK4 and takes the trace by Hutchinson's estimate from
one draw of signs, so that its gradient is that of the likelihood on average; up to two dimensions
the trace is exact there too. A density asked for later is exact up to the adaptive solver's
tolerance and 32 dimensions.

Chen et al., Neural ODEs, NeurIPS 2018, https://arxiv.org/abs/1806.07366
Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..nn import check_condition, learn_standardised
from ..nn.divergence import ways
from ..nn.learn import Draw
from . import ode


class ContinuousFlow(nn.Module):
    """States z (N, D), under conditions (N, C) where it has any: then each call needs them.

    `solver_steps` are RK4's in training, each of four evaluations.
    """

    def __init__(
        self,
        size: int,
        conditions: int = 0,
        *,
        hidden: int = 64,
        layers: int = 2,
        solver_steps: int = 4,
    ) -> None:
        super().__init__()
        self.size, self.conditions, self.solver_steps = size, conditions, solver_steps
        self.network = GatedNetwork(size, conditions, hidden, layers)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(
        self,
        posterior: Draw,
        condition: Tensor | None = None,
        *,
        steps: int = 1500,
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
        """-log p(x | c), (N,), of standardised states x (N, D), as training estimates it."""
        signs = ways(x, exact=2, probes=1)
        return -ode.log_prob(self._under(c, len(x)), x, signs, ode.rk4, self.solver_steps)

    def sample(self, n: int, condition: Tensor | None = None) -> Tensor:
        """States (n, D), row i under row i of `condition` (n, C)."""
        return self.decode(torch.randn(n, self.size).to(self.mean), condition)

    @torch.no_grad()
    def log_prob(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        *,
        solver: ode.Solver = ode.dopri5,
        exact: int = 32,
        probes: int = 8,
    ) -> Tensor:
        """log p(z | c), (N,), of z (N, D): by `probes` signs above `exact` dimensions."""
        x, v = (z - self.mean) / self.scale, self._under(condition, len(z))
        found = ode.log_prob(v, x, ways(x, exact=exact, probes=probes), solver)
        return found - self.scale.log().sum()

    @torch.no_grad()
    def encode(
        self, z: Tensor, condition: Tensor | None = None, *, solver: ode.Solver = ode.dopri5
    ) -> Tensor:
        """The noise (N, D) of states z (N, D)."""
        return ode.pull(self._under(condition, len(z)), (z - self.mean) / self.scale, solver)

    @torch.no_grad()
    def decode(
        self, u: Tensor, condition: Tensor | None = None, *, solver: ode.Solver = ode.dopri5
    ) -> Tensor:
        """The states (N, D) of noise u (N, D)."""
        return self.mean + self.scale * ode.push(self._under(condition, len(u)), u, solver)

    def _under(self, c: Tensor | None, n: int) -> ode.Velocity:
        check_condition(c, n, self.conditions)
        return lambda t, x: self.network(x, t, c)


class GatedNetwork(nn.Module):
    """(N, D) of x (N, D), t () and c (N, C): tanh layers, scaled and shifted by what t and c say.

    It has no norms of layers, which would cost most of a second derivative, and starts at zero.
    """

    def __init__(self, size: int, conditions: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.told = nn.Sequential(nn.Linear(1 + conditions, hidden), nn.SiLU())
        widths = [size] + layers * [hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.gates = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(layers))
        self.end = nn.Linear(hidden, size)
        nn.init.zeros_(self.end.weight), nn.init.zeros_(self.end.bias)

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        t = t.reshape(1, 1).expand(1 if c is None else len(c), 1)
        told = self.told(t if c is None else torch.cat([t, c], -1))
        for layer, gate in zip(self.layers, self.gates, strict=True):
            scale, shift = gate(told).chunk(2, -1)
            x = torch.tanh((1 + scale) * layer(x) + shift)
        return self.end(x)
