r"""Guide of models/shift.py: normal for the effects, amortised for cells given their shift.

    e_pd ~ Normal(loc_pd, scale_pd^2)                effect of perturbation p
    h_n  = encode(log(1 + x_n), sum_p d_np loc_p)
    z_n  ~ Normal(loc(h_n), scale(h_n)^2)            basal state of cell n

    site     kind    plate  event
    effects  latent  -      (P, D)
    z        latent  cells  (D,)

The encoder is given the mean shift of the state and learns how much of it to subtract, in unseen
combinations too. Subtracting exactly that shift would remove the information of the counts about
the effects: z + e would not depend on e.

Calibration before and after `Run.sleep`: docs/calibration.md.

Bereket and Karaletsos, NeurIPS 2023, https://arxiv.org/abs/2311.02794
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import concat, features
from ..parts import DiagonalNormal

START = math.log(0.1)  # of the log scale of an effect


class ShiftGuide(PyroModule):
    """q(e) q(z | x, d); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        perturbations: int,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("ShiftGuide")
        self.encode = features(genes + latent, hidden, dropout=encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)
        self.loc = nn.Parameter(torch.zeros(perturbations, latent))
        self.log_scale = nn.Parameter(torch.full((perturbations, latent), START))

    def forward(self, library: Tensor, perturbation: Tensor, x: Tensor) -> None:
        normal = dist.Normal(self.loc, self.log_scale.exp()).to_event(2)
        pyro.sample("effects", normal)  # (P, D)
        with pyro.plate("cells", len(library)):
            h = self.encode(concat(torch.log1p(x), perturbation @ self.loc))  # (N, H)
            pyro.sample("z", self.posterior(h))  # (N, D)
