r"""Likelihoods of log values: eta is the difference from the average cell.

`RoundedGaussian` is a likelihood of counts: the probability of a count is the mass of its interval
of log values, and can be compared with that of the other count likelihoods. The others are
densities of values, with measure "values"; they are centred at `mean` (G,), of the training cells,
filled from the data (0 where none is given), and do not use the library.

Each is called with eta (..., N, G) and library (N, 1) and returns a distribution of event shape
(G,).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pyro.distributions import (
    Categorical,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    Normal,
    TorchDistribution,
)
from torch import Tensor, nn

from .. import distributions


class RoundedGaussian(nn.Module):
    """Counts whose log values log(1 + scale x_g / library) are Normal(mu_g, sigma_g^2), rounded.

    mu = log(1 + scale average) + eta, so that eta = 0 is the average cell; sigma is learned.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    average
        Composition of the average cell, (G,), summing to 1; uniform by default.
    scale
        Library to which log values are normalised.

    Examples
    --------
    >>> import torch
    >>> x = RoundedGaussian(genes=4)(torch.zeros(2, 4), torch.full((2, 1), 100.0))
    >>> x.log_prob(torch.full((2, 4), 25.0)).shape
    torch.Size([2])
    """

    measure: ClassVar[str] = "counts given library"
    offset: Tensor

    def __init__(self, genes: int, average: Tensor | None = None, scale: float = 1e4) -> None:
        super().__init__()
        self.scale = scale
        uniform = torch.full((genes,), 1 / genes)
        offset = torch.log1p(scale * (uniform if average is None else average))
        self.register_buffer("offset", offset)  # (G,)
        self.log_scale = nn.Parameter(torch.zeros(genes))  # (G,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return distributions.RoundedGaussian(
            self.offset + eta, self.log_scale.exp(), self.scale / library
        ).to_event(1)


def _offset(genes: int, mean: Tensor | None) -> Tensor:
    return torch.zeros(genes) if mean is None else mean


class Gaussian(nn.Module):
    """x_g ~ Normal(mean_g + eta_g, sigma_g^2), sigma learned.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    mean
        Values of the average cell, (G,); 0 by default.
    isotropic
        One sigma for all genes instead of one a gene.

    Examples
    --------
    >>> import torch
    >>> x = Gaussian(genes=4)(torch.zeros(2, 4), torch.ones(2, 1))
    >>> x.log_prob(torch.zeros(2, 4)).detach()  # -2 log(2 pi)
    tensor([-3.6758, -3.6758])
    """

    measure: ClassVar[str] = "values"
    offset: Tensor

    def __init__(self, genes: int, mean: Tensor | None = None, isotropic: bool = False) -> None:
        super().__init__()
        self.register_buffer("offset", _offset(genes, mean))  # (G,)
        self.log_scale = nn.Parameter(torch.zeros(1 if isotropic else genes))  # (G,) or (1,)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        return Normal(self.offset + eta, self.log_scale.exp()).to_event(1)


class GaussianMixture(nn.Module):
    """x_g ~ sum_k pi_kg Normal(mean_g + eta_g + shift_kg, sigma_kg^2): modes of every gene.

    Shifts are centred, sum_k pi_kg shift_kg = 0; they start different.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    modes
        Number of modes K of each gene.
    mean
        Values of the average cell, (G,); 0 by default.

    Examples
    --------
    >>> import torch
    >>> x = GaussianMixture(genes=4, modes=2)(torch.zeros(2, 4), torch.ones(2, 1))
    >>> x.sample().shape
    torch.Size([2, 4])
    """

    measure: ClassVar[str] = "values"
    offset: Tensor

    def __init__(self, genes: int, modes: int = 2, mean: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("offset", _offset(genes, mean))  # (G,)
        self.logits = nn.Parameter(torch.zeros(modes, genes))  # (K, G)
        self.shifts = nn.Parameter(torch.linspace(-1, 1, modes)[:, None].repeat(1, genes))
        self.log_scale = nn.Parameter(torch.zeros(modes, genes))  # (K, G)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        shifts = self.shifts - (self.logits.softmax(0) * self.shifts).sum(0)  # (K, G)
        loc = (self.offset + eta).unsqueeze(-1) + shifts.T.contiguous()  # (..., N, G, K)
        weights = Categorical(logits=self.logits.T.expand_as(loc))
        modes = Normal(loc, self.log_scale.T.contiguous().exp())
        return MixtureSameFamily(weights, modes).to_event(1)


class LowRankGaussianMixture(nn.Module):
    """x ~ sum_k pi_k Normal(mean + eta + shift_k, W_k W_k^T + diag(sigma_k^2)): modes of cells.

    A mode is one of whole profiles, not of single genes. Shifts are centred,
    sum_k pi_k shift_k = 0.

    Parameters
    ----------
    genes
        Number of modelled genes G.
    modes
        Number of modes K.
    factors
        Columns of each W_k; 0 gives diagonal covariances.
    mean
        Values of the average cell, (G,); 0 by default.

    Examples
    --------
    >>> import torch
    >>> x = LowRankGaussianMixture(genes=4, factors=1)(torch.zeros(2, 4), torch.ones(2, 1))
    >>> x.sample().shape
    torch.Size([2, 4])
    """

    measure: ClassVar[str] = "values"
    offset: Tensor

    def __init__(
        self, genes: int, modes: int = 2, factors: int = 2, mean: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("offset", _offset(genes, mean))  # (G,)
        self.logits = nn.Parameter(torch.zeros(modes))  # (K,)
        self.shifts = nn.Parameter(0.1 * torch.randn(modes, genes))  # (K, G)
        loadings = 0.1 * torch.randn(modes, genes, factors)
        self.factors = nn.Parameter(loadings) if factors else None  # (K, G, F)
        self.log_scale = nn.Parameter(torch.zeros(modes, genes))  # (K, G)

    def forward(self, eta: Tensor, library: Tensor) -> TorchDistribution:
        shifts = self.shifts - self.logits.softmax(0) @ self.shifts  # (K, G)
        modes = self.modes((self.offset + eta).unsqueeze(-2) + shifts)  # (..., N, K, G)
        logits = self.logits.expand(modes.batch_shape)
        return MixtureSameFamily(Categorical(logits=logits), modes)

    def modes(self, loc: Tensor) -> TorchDistribution:
        """The K normals of a cell, with means loc (..., K, G)."""
        if self.factors is None:
            return Normal(loc, self.log_scale.exp()).to_event(1)
        return LowRankMultivariateNormal(loc, self.factors, (2 * self.log_scale).exp())
