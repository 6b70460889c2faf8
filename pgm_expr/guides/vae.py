r"""Amortised guide of models/vae.py.

    h_n = encode(log(1 + x_n))
    z_n ~ Normal(loc(h_n), scale(h_n)^2)    state of cell n

    site  kind    plate  event
    z     latent  cells  (D,)

Calibration before and after `Run.sleep`: docs/calibration.md.

Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import features
from ..parts import DiagonalNormal


class VAEGuide(PyroModule):
    """q(z | x); pass another `posterior` to swap its family."""

    def __init__(
        self,
        genes: int,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("VAEGuide")
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(self, library: Tensor, x: Tensor) -> None:
        with pyro.plate("cells", len(library)):
            pyro.sample("z", self.posterior(self.encode(torch.log1p(x))))  # (N, D)
