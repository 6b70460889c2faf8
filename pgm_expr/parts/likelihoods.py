r"""Likelihoods p(x | eta, library): modules that turn a decoder's output into counts.

Each owns its dispersion, gate or modes. All have a link (see `links.py`) from eta, the log fold
change of each gene against the average cell, to log means; unless another is passed the means
are a composition of the modelled genes,

    mean_g = library * softmax(log average + eta)_g

where `library` is the sum of the counts over those genes and `average` (G,) the composition of
the training cells, filled from the data (flat where none is given: a plain softmax).

`measure` says what the log-probability is one of: only equal measures can be compared.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pyro.distributions import Categorical, MixtureSameFamily, TorchDistribution
from torch import Tensor, nn

from .. import distributions
from .links import Composition


class NegativeBinomial(nn.Module):
    """x_g ~ NB(mean_g, theta_g), variance m + m^2 / theta: one dispersion a gene.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_mean = self.log_mean(eta, library)
        return distributions.NegativeBinomial(log_mean, self.log_dispersion).to_event(1)


class NegativeBinomialByBatch(nn.Module):
    """x_g ~ NB(mean_g, theta_bg): each gene has one dispersion in each batch b.

    call(eta (..., N, G), library (N, 1), batch (N,) int64) -> event shape (G,).
    """

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self,
        genes: int,
        batches: int,
        average: Tensor | None = None,
        link: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
        self.log_dispersion = nn.Parameter(torch.zeros(batches, genes))  # (B, G)

    def forward(self, eta: Tensor, library: Tensor, batch: Tensor) -> TorchDistribution:
        log_dispersion = self.log_dispersion.index_select(0, batch)  # its backward is fast
        log_mean = self.log_mean(eta, library)
        return distributions.NegativeBinomial(log_mean, log_dispersion).to_event(1)


class NegativeBinomialByCell(nn.Module):
    """x_g ~ NB(mean_g, theta_ng): log theta_n = log_dispersion + network(eta_n).

    The network starts near 0, so that the part starts as `NegativeBinomial`.
    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        width: int = 16,
        link: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
        self.log_dispersion = nn.Parameter(torch.zeros(genes))  # (G,)
        last = nn.Linear(width, genes, bias=False)  # log_dispersion is the bias
        nn.init.normal_(last.weight, std=1e-3)  # at 0 the first layer would have no gradient
        self.change = nn.Sequential(nn.Linear(genes, width), nn.Tanh(), last)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_dispersion = self.log_dispersion + self.change(eta)  # (..., N, G)
        log_mean = self.log_mean(eta, library)
        return distributions.NegativeBinomial(log_mean, log_dispersion).to_event(1)


class NegativeBinomialMixture(nn.Module):
    r"""x_g ~ sum_k pi_kg NB(mean_g exp(shift_kg), theta_kg): genes that are on in some cells.

    Each gene has K modes of its own, with weights pi_g = softmax(logits_g). Shifts are normalised
    to sum_k pi_kg exp(shift_kg) = 1, so that the mean of the mixture is the link's; they start
    apart, since equal modes have equal gradients.
    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self,
        genes: int,
        average: Tensor | None = None,
        modes: int = 2,
        link: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
        self.logits = nn.Parameter(torch.zeros(modes, genes))  # (K, G)
        self.shifts = nn.Parameter(torch.linspace(-1, 1, modes)[:, None].repeat(1, genes))
        self.log_dispersion = nn.Parameter(torch.zeros(modes, genes))  # (K, G)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        logits = self.logits.log_softmax(0)
        shifts = self.shifts - (logits + self.shifts).logsumexp(0)  # (K, G)
        log_mean = self.log_mean(eta, library).unsqueeze(-1) + shifts.T.contiguous()
        modes = distributions.NegativeBinomial(log_mean, self.log_dispersion.T.contiguous())
        weights = Categorical(logits=logits.T.expand_as(log_mean))  # (..., N, G, K)
        return MixtureSameFamily(weights, modes).to_event(1)


class ZeroInflatedNB(nn.Module):
    """x_g ~ NB(mean_g, theta_g), set to 0 with probability sigmoid(gate_logits_g).

    call(eta (..., N, G), library (N, 1)) -> event shape (G,). mean_g is that of the NB part.
    """

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
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

    measure: ClassVar[str] = "counts given library"
    takes: ClassVar[str] = "counts"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Poisson(self.log_mean(eta, library)).to_event(1)


class Detection(nn.Module):
    """Whether x_g > 0, with probability 1 - exp(-mean_g): all that is kept of a Poisson count.

    call(eta (..., N, G), library (N, 1)) -> event shape (G,). Takes counts or 0 and 1.
    """

    measure: ClassVar[str] = "detection"
    takes: ClassVar[str] = "counts"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Detection(self.log_mean(eta, library)).to_event(1)


class DirichletMultinomial(nn.Module):
    """x ~ DirichletMultinomial(library, c softmax(log average + eta)), c = exp(log_concentration).

    The counts of a cell add up to its library. The multinomial is the limit of large c; at the
    start, c = 1000, a gene of share p varies about as an NB with dispersion 1000 p.
    With a `Rate` link c varies by cell, as the sum of the rates does.
    call(eta (..., N, G), library (N, 1)) -> event shape (G,).
    """

    measure: ClassVar[str] = "counts given total"
    takes: ClassVar[str] = "counts"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)
        self.log_concentration = nn.Parameter(torch.tensor(math.log(1e3)))  # ()

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        log_share = self.log_mean(eta, torch.ones_like(library))  # (..., N, G)
        log_concentration = self.log_concentration + log_share
        return distributions.DirichletMultinomial(log_concentration, library.squeeze(-1))
