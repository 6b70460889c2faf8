r"""Top-down guide of models/ladder.py: evidence on pathways, then programs, then pathways.

    h_n = encode(log(1 + x_n))
    e_n = Normal(A log(1 + x_n) + loc(h_n), scale(h_n)^2)  evidence from counts
    k_n = climb(mean e_n, h_n)
    z_n ~ Normal(loc(k_n), scale(k_n)^2)                   programs of cell n
    y_n ~ e_n * p(y_n | z_n), normalised                   activity of each pathway

    site       kind    plate  event
    z_program  latent  cells  (D,)
    z_pathway  latent  cells  (S,)

A_sg is 0 unless gene g belongs to set s. Given the programs, q of the pathways is the
product of this evidence and the model's p(y | z), which is borrowed from it.

Calibration before and after `Run.sleep`: docs/calibration.md.

Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import concat, features
from ..parts import DiagonalNormal, GeneSetEvidence, product


class LadderGuide(PyroModule):
    """q(z | x) q(y | x, z); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        model: Any,
        latent: int = 5,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("LadderGuide")
        self._borrowed = (model,)  # its parameters are the model's
        belongs = model.decode.belongs  # (S, G)
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.evidence = GeneSetEvidence(hidden, belongs)
        self.climb = features(len(belongs) + hidden, hidden)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(self, library: Tensor, x: Tensor) -> None:
        (model,) = self._borrowed
        with pyro.plate("cells", len(library)):
            h = self.encode(torch.log1p(x))  # (N, H)
            evidence = self.evidence(h, torch.log1p(x))  # (N, S)
            k = self.climb(concat(evidence.mean, h))  # (N, H)
            z = pyro.sample("z_program", self.posterior(k))  # (N, D)
            pyro.sample("z_pathway", product(evidence, model.lift(z)))  # (N, S)
