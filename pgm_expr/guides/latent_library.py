r"""Amortised guide of models/latent_library.py.

    h_n     = encode(log(1 + x_n))
    z_n     ~ Normal(loc(h_n), scale(h_n)^2)              state of cell n
    log l_n ~ Normal(log sum_g x_ng + shift(h_n), ...)    library of cell n

    site         kind    plate  event
    z            latent  cells  (D,)
    log_library  latent  cells  (1,)

Calibration before and after `Run.sleep`: docs/calibration.md.

Lopez et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0229-2
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import features
from ..parts import DiagonalNormal


class LatentLibraryGuide(PyroModule):
    """q(z | x) q(library | x); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("LatentLibraryGuide")
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)
        self.depth = DiagonalNormal(hidden, 1)

    def forward(self, library: Tensor, x: Tensor) -> None:
        h = self.encode(torch.log1p(x))  # (N, H)
        shift = self.depth(h).base_dist
        total = x.sum(-1, keepdim=True).log()  # (N, 1)
        with pyro.plate("cells", len(library)):
            pyro.sample("z", self.posterior(h))  # (N, D)
            q = dist.Normal(total + shift.loc, 0.1 * shift.scale)
            pyro.sample("log_library", q.to_event(1))
