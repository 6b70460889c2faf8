r"""Amortised guide of models/offset.py, conditioned on the same covariates.

    h_n = encode(log(1 + x_n) gated by c_n)
    z_n ~ Normal(loc(h_n), scale(h_n)^2)    state of cell n

    site  kind    plate  event
    z     latent  cells  (D,)

Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114
"""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import DiagonalNormal, Gated


class OffsetGuide(PyroModule):
    """q(z | x, c); pass another `posterior` to swap its family."""

    def __init__(
        self,
        genes: int,
        conditions: int,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("OffsetGuide")
        self.encode = Gated(genes, conditions, hidden, encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(
        self,
        library: Tensor,
        condition: Tensor,
        offset: Tensor | None = None,
        x: Tensor | None = None,
    ) -> None:
        assert x is not None  # a guide reads counts
        with pyro.plate("cells", len(library)):
            h = self.encode(torch.log1p(x), condition)  # (N, H)
            pyro.sample("z", self.posterior(h))  # (N, D)
