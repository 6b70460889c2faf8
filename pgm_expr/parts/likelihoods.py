r"""Likelihoods p(x | eta, library): from a decoder's output to a distribution of counts.

Each owns its dispersion, gate or modes, and a link (see `links.py`) from eta, the log fold change
of each gene against the average cell, to log means. By default the means are a composition of the
modelled genes,

    mean_g = library * softmax(log average + eta)_g

where `library` is the sum of the counts over those genes and `average` (G,) the composition of
the training cells, filled from the data (uniform where none is given: a plain softmax).

Each is called with eta (..., N, G) and library (N, 1) and returns a distribution of event shape
(G,). `measure` names what the log-probability refers to; only equal measures are comparable.
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
    """x_g ~ NB(mean_g, theta_g), of variance m + m^2 / theta: one dispersion a gene.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    average
        Composition of the average cell, (G,), summing to 1; uniform by default.
    link
        Module from (eta, library) to log means; `Composition` by default.

    Examples
    --------
    >>> import torch
    >>> likelihood = NegativeBinomial(genes=4)
    >>> x = likelihood(torch.zeros(2, 4), torch.tensor([[100.0], [40.0]]))
    >>> x.mean.round()
    tensor([[25., 25., 25., 25.],
            [10., 10., 10., 10.]])
    """

    measure: ClassVar[str] = "counts given library"

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
    """x_g ~ NB(mean_g, theta_bg): one dispersion a gene and batch b.

    Called with `batch` (N,) int64 as third argument.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.
    batches
        Number of batches.

    Examples
    --------
    >>> import torch
    >>> likelihood = NegativeBinomialByBatch(genes=4, batches=2)
    >>> x = likelihood(torch.zeros(3, 4), torch.full((3, 1), 100.0), torch.tensor([0, 1, 1]))
    >>> x.batch_shape, x.event_shape
    (torch.Size([3]), torch.Size([4]))
    """

    measure: ClassVar[str] = "counts given library"

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
        log_dispersion = self.log_dispersion.index_select(0, batch)  # its backward is faster
        log_mean = self.log_mean(eta, library)
        return distributions.NegativeBinomial(log_mean, log_dispersion).to_event(1)


class NegativeBinomialByCell(nn.Module):
    """x_g ~ NB(mean_g, theta_ng), log theta_n = log_dispersion + network(eta_n).

    The network starts near 0, so that the part starts as `NegativeBinomial`.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.
    width
        Width of the network's hidden layer.

    Examples
    --------
    >>> import torch
    >>> x = NegativeBinomialByCell(genes=4)(torch.randn(3, 4), torch.full((3, 1), 100.0))
    >>> x.sample().shape
    torch.Size([3, 4])
    """

    measure: ClassVar[str] = "counts given library"

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
    r"""x_g ~ sum_k pi_kg NB(mean_g exp(shift_kg), theta_kg): genes expressed in some cells only.

    Each gene has K modes, with weights pi_g = softmax(logits_g). Shifts are normalised to
    sum_k pi_kg exp(shift_kg) = 1, so that the link gives the mean of the mixture. They are
    initialised apart, since equal modes would have equal gradients.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.
    modes
        Number of modes K of each gene.

    Examples
    --------
    >>> import torch
    >>> x = NegativeBinomialMixture(genes=4)(torch.zeros(1, 4), torch.full((1, 1), 100.0))
    >>> bool(x.mean.allclose(torch.full((1, 4), 25.0)))
    True
    """

    measure: ClassVar[str] = "counts given library"

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

    mean_g is the mean before zero inflation.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.

    Examples
    --------
    >>> import torch
    >>> x = ZeroInflatedNB(genes=4)(torch.zeros(1, 4), torch.full((1, 1), 100.0))
    >>> bool((x.mean < 25).all())
    True
    """

    measure: ClassVar[str] = "counts given library"

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
    """x_g ~ Poisson(mean_g): given the latents, no variance beyond counting noise.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.

    Examples
    --------
    >>> import torch
    >>> x = PoissonCounts(genes=4)(torch.zeros(1, 4), torch.full((1, 1), 100.0))
    >>> x.variance.round()
    tensor([[25., 25., 25., 25.]])
    """

    measure: ClassVar[str] = "counts given library"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Poisson(self.log_mean(eta, library)).to_event(1)


class Detection(nn.Module):
    """Whether x_g > 0, with probability 1 - exp(-mean_g): a Poisson count reduced to detection.

    Values may be counts, or 0 and 1.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.

    Examples
    --------
    >>> import torch
    >>> x = Detection(genes=4)(torch.zeros(1, 4), torch.full((1, 1), 4.0))
    >>> x.mean  # 1 - exp(-1)
    tensor([[0.6321, 0.6321, 0.6321, 0.6321]])
    """

    measure: ClassVar[str] = "detection"

    def __init__(
        self, genes: int, average: Tensor | None = None, link: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.log_mean = link or Composition(genes, average)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.Detection(self.log_mean(eta, library)).to_event(1)


class DirichletMultinomial(nn.Module):
    """x ~ DirichletMultinomial(library, c softmax(log average + eta)), c = exp(log_concentration).

    The counts of a cell add up to its library. The multinomial is the limit of large c. At the
    initial c = 1000 a gene of share p has about the variance of an NB with dispersion 1000 p.
    With a `Rate` link c varies by cell, in proportion to the sum of the rates.

    Parameters
    ----------
    genes, average, link
        See `NegativeBinomial`.

    Examples
    --------
    >>> import torch
    >>> x = DirichletMultinomial(genes=4)(torch.zeros(2, 4), torch.tensor([[100.0], [40.0]]))
    >>> x.sample().sum(-1)
    tensor([100.,  40.])
    """

    measure: ClassVar[str] = "counts given total"

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
