r"""Sparse additive shifts: a perturbation moves the state of a cell, few dimensions at a time.

    e_pd ~ Laplace(0, effect_scale)                                effect of perturbation p
    z_n  ~ Normal(0, I_D)                                          basal state of cell n
    s_n  = z_n + sum_p d_np e_p                                    its state as perturbed
    m_n  = library_n * softmax(log average + decode(s_n))          mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_g)     counts

    site     kind      plate  event
    effects  latent    -      (P, D)
    z        latent    cells  (D,)
    x        observed  cells  (G,)

d_n holds ones for the perturbations that cell n received. Effects of perturbations add up, so that
a pair that no cell received is predicted from cells that received either. The basal state is that
of the cell without perturbations.

Bereket and Karaletsos, NeurIPS 2023, https://arxiv.org/abs/2311.02794
Lotfollahi et al., Molecular Systems Biology 2023, https://doi.org/10.15252/msb.202211517
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import mlp
from ..parts import NegativeBinomial, StandardNormal


class Shift(PyroModule):
    """p(e) p(z) p(x | z + d e, library); pass another `prior` or `likelihood` to swap an edge."""

    def __init__(
        self,
        genes: int,
        perturbations: int,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        effect_scale: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__("Shift")
        self.prior = prior or StandardNormal(latent)
        self.decode = mlp(latent, hidden, genes, dropout=decoder_dropout)
        self.likelihood = likelihood or NegativeBinomial(genes, average)
        self.register_buffer("origin", torch.zeros(perturbations, latent))
        self.effect_scale = effect_scale

    def forward(self, library: Tensor, perturbation: Tensor, x: Tensor | None = None) -> Tensor:
        sparse = dist.Laplace(self.origin, self.effect_scale).to_event(2)
        effects = pyro.sample("effects", sparse)  # (P, D)
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            shift = (perturbation.unsqueeze(-2) @ effects).squeeze(-2)  # (N, D)
            eta = self.decode(z + shift)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)
