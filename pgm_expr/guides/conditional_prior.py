r"""Amortised guide of models/conditional_prior.py, conditioned on the same covariates.

    h_n = encode(log(1 + x_n) gated by c_n)
    z_n ~ Normal(loc(h_n), scale(h_n)^2)    state of cell n

    site  kind    plate  event
    z     latent  cells  (D,)

Calibration before and after `Run.sleep`: docs/calibration.md.

Sohn, Lee and Yan, NeurIPS 2015, https://papers.nips.cc/paper/5775
"""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import DiagonalNormal, Gated, Metadata


class ConditionalPriorGuide(PyroModule):
    """q(z | x, c); pass another `posterior` to swap its family."""

    def __init__(
        self,
        genes: int,
        conditions: int = 0,
        batches: int = 0,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        condition_dropout: float = 0.0,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("ConditionalPriorGuide")
        self.metadata = Metadata(conditions, batches, condition_dropout)
        self.encode = Gated(genes, self.metadata.features, hidden, encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(
        self,
        library: Tensor,
        condition: Tensor | None = None,
        batch: Tensor | None = None,
        x: Tensor | None = None,
    ) -> None:
        assert x is not None  # a guide reads counts
        c = self.metadata(condition, batch)  # (N, C)
        with pyro.plate("cells", len(library)):
            h = self.encode(torch.log1p(x), c)  # (N, H)
            pyro.sample("z", self.posterior(h))  # (N, D)
