r"""Top-down guide of models/ladder.py: evidence on the way up, states on the way down.

    h_n = encode(log(1 + x_n))
    e_n = Normal(A log(1 + x_n) + loc(h_n), scale(h_n)^2)  what counts say of pathways
    k_n = climb(mean e_n, h_n)
    z_n ~ Normal(loc(k_n), scale(k_n)^2)                   programs of cell n
    y_n ~ e_n * p(y_n | z_n), normed                       activity of each pathway

    site       kind    plate  event
    z_program  latent  cells  (D,)
    z_pathway  latent  cells  (S,)

A_sg is 0 unless gene g belongs to set s. Given the programs, the pathways are the product of
what the counts say and what the model's own p(y | z) expects, which is borrowed from it.

Where it is wrong (benchmarks/sbc.py --epochs 40): intervals of z_program, z_pathway cover more
than .03 too much or too little. All latents together are too narrow: the central half holds
46% of true states; coverage is off by up to 0.04, and by 0.11 in one dimension of z_pathway.
After `Run.sleep` (--sleep 4000) it is right within 0.023 in every dimension, 0.007 in all
together, and the central half holds 49%.

Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

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
        model: nn.Module,
        latent: int = 5,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("LadderGuide")
        self._borrowed = (model,)
        belongs = model.decode.belongs  # (S, G)
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.evidence = GeneSetEvidence(hidden, belongs)
        self.climb = features(len(belongs) + hidden, hidden)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(self, library: Tensor, x: Tensor | None = None) -> None:
        (model,) = self._borrowed
        with pyro.plate("cells", len(library)):
            h = self.encode(torch.log1p(x))  # (N, H)
            evidence = self.evidence(h, torch.log1p(x))  # (N, S)
            k = self.climb(concat(evidence.mean, h))  # (N, H)
            z = pyro.sample("z_program", self.posterior(k))  # (N, D)
            pyro.sample("z_pathway", product(evidence, model.lift(z)))  # (N, S)
