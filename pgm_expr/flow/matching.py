r"""Flow matching: a velocity from noise to states, learnt by regression, without solving.

    x_0 ~ Normal(0, I) and x_1 a state, paired by a coupling
    x_t = (1 - t) x_0 + t x_1,  t ~ Uniform(0, 1)
    loss = |v(x_t, t, c) - (x_1 - x_0)|^2,  whose least is v = E[x_1 - x_0 | x_t, c]

Following v from t = 0 carries noise to states (`ode`). Optimal transport (`coupling`) makes paths
straighter and the targets of one x_t more alike: half as many steps do, at the cost of pairing.

Guidance is that of classifier-free diffusion, v + w (v_c - v): w = 0 is no condition and w = 1
the condition, both exactly. For it, training drops conditions at times.

Lipman et al., ICLR 2023, https://arxiv.org/abs/2210.02747
Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..nn import FiLMNetwork, check_condition, learn_standardised
from ..nn.divergence import ways
from ..nn.guidance import guided
from ..nn.learn import Draw
from . import ode
from .coupling import Coupling, optimal_transport

SLOW = 0.01  # time as the network sees it: its waves then take 0.6 or longer


class FlowMatching(nn.Module):
    """States z (N, D), under conditions (N, C) where it has any; asked without, of their mix.

    Draws take a fixed number of midpoint steps; densities and encoding solve adaptively.
    """

    def __init__(
        self,
        size: int,
        conditions: int = 0,
        *,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.1,
        coupling: Coupling = optimal_transport,
    ) -> None:
        super().__init__()
        self.size, self.conditions = size, conditions
        self.dropout, self.coupling = dropout, coupling
        self.network = FiLMNetwork(size, conditions, hidden, layers)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(
        self,
        posterior: Draw,
        condition: Tensor | None = None,
        *,
        steps: int = 4000,
        seed: int = 0,
        **learning: float,
    ) -> Iterator[float]:
        """Train in place on draws (N, D) of `posterior()`; yields the mean loss of each epoch.

        `learning` goes to `nn.learn`. Its units are those of the first draw.
        """
        return learn_standardised(
            self, self.loss, posterior, condition, steps=steps, seed=seed, **learning
        )

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(N,) of standardised states x (N, D), each at a time of its own."""
        noise = self.coupling(torch.randn_like(x), x, c)
        t = torch.rand_like(x[:, 0])
        between = torch.lerp(noise, x, t.unsqueeze(-1))
        drop = torch.rand_like(t) < self.dropout
        return ((self.network(between, SLOW * t, c, drop) - (x - noise)) ** 2).sum(-1)

    def velocity(self, x: Tensor, t: Tensor, c: Tensor | None, guidance: float = 1.0) -> Tensor:
        """v (N, D) at x (N, D) and t ()."""
        return guided(lambda x, t, c: self.network(x, SLOW * t, c), c, guidance)(x, t)

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: ode.Solver = ode.midpoint,
    ) -> Tensor:
        """States (n, D), row i under row i of `condition` (n, C); without, of the training mix."""
        u = torch.randn(n, self.size).to(self.mean)
        return self.decode(u, condition, guidance=guidance, solver=solver, steps=steps)

    @torch.no_grad()
    def log_prob(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        *,
        guidance: float = 1.0,
        solver: ode.Solver = ode.dopri5,
        steps: int = 100,
        exact: int = 32,
        probes: int = 8,
    ) -> Tensor:
        """log p(z | c), (N,), of z (N, D): by `probes` signs above `exact` dimensions."""
        x, v = (z - self.mean) / self.scale, self._under(condition, len(z), guidance)
        found = ode.log_prob(v, x, ways(x, exact=exact, probes=probes), solver, steps)
        return found - self.scale.log().sum()

    @torch.no_grad()
    def encode(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        *,
        guidance: float = 1.0,
        solver: ode.Solver = ode.dopri5,
        steps: int = 100,
    ) -> Tensor:
        """The noise (N, D) of states z (N, D)."""
        v = self._under(condition, len(z), guidance)
        return ode.pull(v, (z - self.mean) / self.scale, solver, steps)

    @torch.no_grad()
    def decode(
        self,
        u: Tensor,
        condition: Tensor | None = None,
        *,
        guidance: float = 1.0,
        solver: ode.Solver = ode.dopri5,
        steps: int = 100,
    ) -> Tensor:
        """The states (N, D) of noise u (N, D)."""
        v = self._under(condition, len(u), guidance)
        return self.mean + self.scale * ode.push(v, u, solver, steps)

    def _under(self, c: Tensor | None, n: int, guidance: float) -> ode.Velocity:
        check_condition(c, n, self.conditions, optional=True)
        return lambda t, x: self.velocity(x, t, c, guidance)
