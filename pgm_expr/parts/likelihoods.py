r"""Likelihoods p(x | eta, library): modules that turn a decoder's output into counts.

Each owns its dispersion and gate and shares one link, a composition of the modelled genes:

    mean_g = library * softmax(eta)_g,   library = the sum of the counts over those genes
"""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .. import distributions


def log_composition(eta: Tensor, library: Tensor) -> Tensor:
    """log(library * softmax(eta)): (..., N, G) from eta (..., N, G) and library (N, 1)."""
    return library.log() + eta.log_softmax(-1)


class NegativeBinomial(nn.Module):
    """x_g ~ NB(mean_g, theta_g), variance m + m^2 / theta: one dispersion a gene.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_mean = log_composition(eta, library)
        return distributions.NegativeBinomial(log_mean, self.log_dispersion).to_event(1)


class ZeroInflatedNB(nn.Module):
    """x_g ~ NB(mean_g, theta_g), set to 0 with probability sigmoid(gate_logits_g): technical zeros.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,). mean_g is that of the NB part.
    """

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)
        self.gate_logits = nn.Parameter(torch.full((genes,), -3.0))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.ZeroInflatedNegativeBinomial(
            log_composition(eta, library), self.log_dispersion, self.gate_logits
        ).to_event(1)


class PoissonCounts(nn.Module):
    """x_g ~ Poisson(mean_g): no variance beyond the latent's.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    def __init__(self, genes: int) -> None:
        super().__init__()
        self.genes = genes

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Poisson(log_composition(eta, library)).to_event(1)
