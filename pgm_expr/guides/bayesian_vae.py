r"""Guide of models/bayesian_vae.py: Pyro's AutoNormal for dispersions, amortised for cells.

    log theta_g ~ Normal(loc_g, scale_g^2)          dispersion of gene g
    h_n         = encode(log(1 + x_n))
    z_n         ~ Normal(loc(h_n), scale(h_n)^2)    state of cell n

    site            kind    plate  event
    log_dispersion  latent  -      (G,)
    z               latent  cells  (D,)

Calibration before and after `Run.sleep`: docs/calibration.md.

Kucukelbir et al., JMLR 2017, https://arxiv.org/abs/1603.00788
"""

from __future__ import annotations

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import features
from ..parts import DiagonalNormal


class BayesianVAEGuide(PyroModule):
    """q(theta) q(z | x); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        model: nn.Module,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("BayesianVAEGuide")
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)
        with pyro.get_param_store().scope():  # what is learned starts with this guide
            self.shared = AutoNormal(poutine.block(model, expose=["log_dispersion"]))
            self.shared(torch.ones(1, 1))  # it has parameters from here on

    def forward(self, library: Tensor, x: Tensor) -> None:
        self.shared(library)  # (G,)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", self.posterior(self.encode(torch.log1p(x))))  # (N, D)
