r"""Amortised guide of models/mixture.py: a posterior of the state for each regime.

    h_n = read(log(1 + x_n))
    y_n ~ Categorical(softmax(regime(h_n)))         regime of cell n
    g_n = state_y(h_n)                              features of its regime
    z_n ~ Normal(loc(g_n), scale(g_n)^2)            state within the regime

    site    kind    plate  event
    regime  latent  cells  ()
    z       latent  cells  (D,)

Calibration before and after `Run.sleep`: docs/calibration.md.

Dilokthanakul et al., 2016, https://arxiv.org/abs/1611.02648
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import Linears, features
from ..parts import DiagonalNormal


class MixtureOfVAEsGuide(PyroModule):
    """q(y | x) q(z | x, y); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        regimes: int = 3,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("MixtureOfVAEsGuide")
        self.read = features(genes, hidden, dropout=encoder_dropout)
        self.regime = nn.Linear(hidden, regimes)
        self.state = Linears(regimes, hidden, hidden)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(self, library: Tensor, x: Tensor) -> None:
        h = self.read(torch.log1p(x))  # (N, H)
        regime = dist.Categorical(logits=self.regime(h))
        with pyro.plate("cells", len(library)):
            y = pyro.sample("regime", regime, infer={"enumerate": "parallel"})  # (N,)
            g = self.state(h, y).relu()  # (N, H)
            pyro.sample("z", self.posterior(g))  # (N, D)

    def classify(self, x: Tensor) -> Tensor:
        """Logits of q(y | x), (N, K)."""
        return self.regime(self.read(torch.log1p(x)))
