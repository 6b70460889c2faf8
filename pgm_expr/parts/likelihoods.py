r"""Likelihoods p(x | eta, library): modules that turn a decoder's output into counts.

Each owns its dispersion and gate. They share one link: eta is the log fold change of each gene
against the average cell, and the means are a composition of the modelled genes,

    mean_g = library * softmax(log average + eta)_g

where `library` is the sum of the counts over those genes and `average` (G,) the composition of
the training cells, filled from the data (flat where none is given: a plain softmax).
"""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .. import distributions


class Composition(nn.Module):
    """The link: call(eta (..., N, G), library (N, 1)) -> log means (..., N, G)."""

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        flat = torch.full((genes,), 1 / genes)
        self.register_buffer("log_average", (flat if average is None else average).log())

    def forward(self, eta: Tensor, library: Tensor) -> Tensor:
        return library.log() + (self.log_average + eta).log_softmax(-1)


class NegativeBinomial(nn.Module):
    """x_g ~ NB(mean_g, theta_g), variance m + m^2 / theta: one dispersion a gene.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        self.log_mean = Composition(genes, average)
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_mean = self.log_mean(eta, library)
        return distributions.NegativeBinomial(log_mean, self.log_dispersion).to_event(1)


class ZeroInflatedNB(nn.Module):
    """x_g ~ NB(mean_g, theta_g), set to 0 with probability sigmoid(gate_logits_g).

    call(eta (..., N, G), library (N, 1)) -> event shape (G,). mean_g is that of the NB part.
    """

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        self.log_mean = Composition(genes, average)
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)
        self.gate_logits = nn.Parameter(torch.full((genes,), -3.0))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_mean = self.log_mean(eta, library)
        return distributions.ZeroInflatedNegativeBinomial(
            log_mean, self.log_dispersion, self.gate_logits
        ).to_event(1)


class PoissonCounts(nn.Module):
    """x_g ~ Poisson(mean_g): no variance beyond the latent's.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    def __init__(self, genes: int, average: Tensor | None = None) -> None:
        super().__init__()
        self.log_mean = Composition(genes, average)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Poisson(self.log_mean(eta, library)).to_event(1)
