r"""A continuous normalising flow: a velocity from noise to states, fitted by maximum likelihood.

    dx/dt = v(x, t, c),  x_0 ~ Normal(0, I),  x_1 the state
    log p(x_1 | c) = log Normal(x_0; 0, I) - int_0^1 tr(dv/dx) dt

v can be any network, since the solver inverts it. If a few steps did not resolve v, training would
fit the errors of the solver; so the network is smooth, and time enters it directly, not through
sines of high frequency.

A training step integrates back from x_1 with RK4. In up to two dimensions the trace is exact; in
more, Hutchinson's estimator with one sign vector gives an unbiased gradient. After training,
densities in up to 32 dimensions are exact up to the tolerance of the adaptive solver.

Chen et al., Neural ODEs, NeurIPS 2018, https://arxiv.org/abs/1806.07366
Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..nn import StateGenerator, check_condition
from ..nn.divergence import ways
from . import ode


class ContinuousFlow(StateGenerator):
    """A generator of states by a continuous normalising flow, with density and inverse.

    Trained by maximum likelihood, for 1500 steps by default; the loss is -log p(x | c) in nats.
    With conditions, every call requires them.

    Parameters
    ----------
    size
        Dimensions D of a state.
    conditions
        Number of encoded conditions C; 0 for none.
    hidden, layers
        Width and number of hidden layers of the velocity's network.
    solver_steps
        Steps of RK4 in training, of four evaluations each.

    References
    ----------
    Chen et al., Neural ODEs, NeurIPS 2018, https://arxiv.org/abs/1806.07366
    Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> flow = ContinuousFlow(size=2, hidden=8)
    >>> losses = list(flow.fit(lambda: 5 + torch.randn(64, 2), steps=3))
    >>> z = flow.sample(4)
    >>> z.shape, flow.log_prob(z).shape
    (torch.Size([4, 2]), torch.Size([4]))
    """

    default_steps: ClassVar[int] = 1500

    def __init__(
        self,
        size: int,
        conditions: int = 0,
        *,
        hidden: int = 64,
        layers: int = 2,
        solver_steps: int = 4,
    ) -> None:
        super().__init__(size, conditions)
        self.solver_steps = solver_steps
        self.network = GatedNetwork(size, conditions, hidden, layers)

    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """-log p(x | c), (N,), of standardised states x (N, D), as training estimates it."""
        signs = ways(x, exact=2, probes=1)
        return -ode.log_prob(self._velocity(c, len(x)), x, signs, ode.rk4, self.solver_steps)

    def sample(self, n: int, condition: Tensor | None = None) -> Tensor:
        """States (n, D), row i given row i of `condition` (n, C)."""
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
        """log p(z | c), (N,), of states z (N, D).

        Parameters
        ----------
        z, condition
            States and their conditions (N, C).
        solver
            Solver of the differential equation, see `flow.ode`.
        exact, probes
            Above `exact` dimensions the divergence is estimated from `probes` random signs.
        """
        x, v = (z - self.mean) / self.scale, self._velocity(condition, len(z))
        found = ode.log_prob(v, x, ways(x, exact=exact, probes=probes), solver)
        return found - self.scale.log().sum()

    @torch.no_grad()
    def encode(
        self, z: Tensor, condition: Tensor | None = None, *, solver: ode.Solver = ode.dopri5
    ) -> Tensor:
        """The noise (N, D) of states z (N, D)."""
        return ode.pull(self._velocity(condition, len(z)), (z - self.mean) / self.scale, solver)

    @torch.no_grad()
    def decode(
        self, u: Tensor, condition: Tensor | None = None, *, solver: ode.Solver = ode.dopri5
    ) -> Tensor:
        """The states (N, D) of noise u (N, D)."""
        return self.mean + self.scale * ode.push(self._velocity(condition, len(u)), u, solver)

    def _velocity(self, c: Tensor | None, n: int) -> ode.Velocity:
        check_condition(c, n, self.conditions)
        return lambda t, x: self.network(x, t, c)


class GatedNetwork(nn.Module):
    """(N, D) from x (N, D), t () and c (N, C): tanh layers, scaled and shifted by t and c.

    Without layer norms, whose second derivatives are expensive. The initial output is zero.
    """

    def __init__(self, size: int, conditions: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1 + conditions, hidden), nn.SiLU())
        widths = [size] + layers * [hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.gates = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(layers))
        self.end = nn.Linear(hidden, size)
        nn.init.zeros_(self.end.weight), nn.init.zeros_(self.end.bias)
        self.register_load_state_dict_pre_hook(_rename_old_weights)

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        t = t.reshape(1, 1).expand(1 if c is None else len(c), 1)
        e = self.embed(t if c is None else torch.cat([t, c], -1))  # (N, H)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            scale, shift = gate(e).chunk(2, -1)
            x = torch.tanh((1 + scale) * layer(x) + shift)
        return self.end(x)


def _rename_old_weights(
    module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Accept weights saved by version 0.5, where `embed` had another name."""
    old = f"{prefix}told."
    for name in [name for name in state if name.startswith(old)]:
        state[f"{prefix}embed.{name.removeprefix(old)}"] = state.pop(name)
