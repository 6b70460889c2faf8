r"""Flow matching: a velocity from noise to states, fitted by regression, without a solver.

    x_0 ~ Normal(0, I) and x_1 a state, paired by a coupling
    x_t = (1 - t) x_0 + t x_1,  t ~ Uniform(0, 1)
    loss = |v(x_t, t, c) - (x_1 - x_0)|^2,  minimised by v = E[x_1 - x_0 | x_t, c]

Following v from t = 0 to 1 maps noise to states (`ode`). Optimal transport (`coupling`) makes
paths straighter and reduces the variance of targets at one x_t: half as many steps suffice, at the
cost of the pairing.

Guidance is that of classifier-free diffusion, v + w (v_c - v): w = 0 is unconditional and w = 1
the condition, both exactly. For this, training drops a share of conditions.

Lipman et al., ICLR 2023, https://arxiv.org/abs/2210.02747
Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..nn import FiLMNetwork, StateGenerator, check_condition
from ..nn.divergence import ways
from ..nn.guidance import guided
from . import ode
from .coupling import Coupling, optimal_transport

SLOW = 0.01  # factor of time for the network, whose fastest sine then has period 0.6


class FlowMatching(StateGenerator):
    """A generator of states by flow matching, with guidance, density and inverse.

    Trained by regression, for 4000 steps by default. Draws take a fixed number of midpoint steps;
    densities and encoding solve adaptively. Without conditions in a call, states are those of the
    training mixture.

    Parameters
    ----------
    size
        Dimensions D of a state.
    conditions
        Number of encoded conditions C; 0 for none.
    hidden, layers
        Width and number of blocks of the velocity's `FiLMNetwork`.
    dropout
        Share of conditions that training drops.
    coupling
        Function that pairs noise with states, see `flow.coupling`.

    References
    ----------
    Lipman et al., ICLR 2023, https://arxiv.org/abs/2210.02747

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> flow = FlowMatching(size=2, conditions=1, hidden=8)
    >>> losses = list(flow.fit(lambda: 5 + torch.randn(64, 2), torch.ones(64, 1), steps=3))
    >>> flow.sample(4, torch.ones(4, 1), guidance=1.5).shape, flow.sample(4).shape
    (torch.Size([4, 2]), torch.Size([4, 2]))
    """

    default_steps: ClassVar[int] = 4000

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
        super().__init__(size, conditions)
        self.dropout, self.coupling = dropout, coupling
        self.network = FiLMNetwork(size, conditions, hidden, layers)

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The squared error, (N,), of standardised states x (N, D), at one random time each."""
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
        """Draw states.

        Parameters
        ----------
        n
            Number of states.
        condition
            Conditions (n, C), row i for state i; None draws from the training mixture.
        steps
            Steps of the solver.
        guidance
            Weight w: 0 is unconditional, 1 the condition; more exaggerates it.
        solver
            Solver of the differential equation, see `flow.ode`.

        Returns
        -------
        Tensor
            States (n, D).
        """
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
        """log p(z | c), (N,), of states z (N, D).

        Parameters
        ----------
        z, condition, guidance, solver, steps
            As for `sample`.
        exact, probes
            Above `exact` dimensions the divergence is estimated from `probes` random signs.
        """
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
