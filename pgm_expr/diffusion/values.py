r"""A baseline: diffusion of log-normalised values in gene space.

    y_ng = log(1 + size x_ng / library_n)          library_n = sum_g x_ng, of the same genes

Values are standardised by gene and diffused like latent states. A draw is clipped at 0. Counts
require a library, and lose information:

    rho = expm1(y) / sum_g expm1(y)                shares of the expected counts
    rounded   x = round(library rho)
    drawn     x ~ Poisson(library rho)

Rounding recovers a cell exactly at its original library. At a smaller one, genes with an expected
count below 1/2 become 0, and the total differs from the library. A Poisson draw preserves every
mean, but values already contain counting noise: it enters twice, which adds up to the mean to the
variance. Diffusion also spreads exact zeros into small values. `LatentDiffusion` of a count
story's states and `DiscreteDiffusion` have none of these problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import torch
from torch import Tensor, nn

from ..nn.learn import Learning
from .latent import DensityOptions, LatentDiffusion
from .noise import Noise
from .sample import Sampler, dpm_solver_pp_2m

SIZE = 1e4  # library to which values are normalised


def normalised(counts: Tensor) -> Tensor:
    """Log-normalised values log(1 + 1e4 x / library).

    Parameters
    ----------
    counts
        Counts (N, G).

    Returns
    -------
    Tensor
        Values (N, G); 0 for a cell without counts.

    Examples
    --------
    >>> import torch
    >>> normalised(torch.tensor([[1.0, 3.0]])).expm1().round()
    tensor([[2500., 7500.]])
    """
    library = counts.sum(-1, keepdim=True)
    return (SIZE * counts / library.clamp_min(1)).log1p()


def expected(values: Tensor, library: Tensor) -> Tensor:
    """Expected counts (N, G) of values (N, G) at a library (N, 1)."""
    rate = values.clamp_min(0).expm1()
    return library * rate / rate.sum(-1, keepdim=True).clamp_min(1e-12)


def rounded(values: Tensor, library: Tensor) -> Tensor:
    """Expected counts, rounded.

    Parameters
    ----------
    values
        Log-normalised values (N, G).
    library
        Library of each cell (N, 1).

    Returns
    -------
    Tensor
        Counts (N, G).

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 3.0, 0.0]])
    >>> rounded(normalised(x), torch.tensor([[4.0]]))
    tensor([[1., 3., 0.]])
    """
    return expected(values, library).round()


def drawn(values: Tensor, library: Tensor) -> Tensor:
    """Poisson draws around expected counts.

    Parameters
    ----------
    values
        Log-normalised values (N, G).
    library
        Library of each cell (N, 1).

    Returns
    -------
    Tensor
        Counts (N, G).

    Examples
    --------
    >>> import torch
    >>> drawn(normalised(torch.tensor([[1.0, 3.0, 0.0]])), torch.tensor([[4.0]])).shape
    torch.Size([1, 3])
    """
    return torch.poisson(expected(values, library))


class ValueDiffusion(nn.Module):
    """A generator of log-normalised values (N, G), given conditions (N, C) or none.

    Parameters
    ----------
    genes
        Number of genes G.
    conditions, hidden, layers, dropout, noise
        See `LatentDiffusion`.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> diffusion = ValueDiffusion(genes=4, hidden=8)
    >>> losses = list(diffusion.fit(torch.poisson(torch.full((64, 4), 5.0)), steps=3))
    >>> values = diffusion.sample(2)
    >>> rounded(values, torch.full((2, 1), 20.0)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        genes: int,
        conditions: int = 0,
        *,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.1,
        noise: Noise | None = None,
    ) -> None:
        super().__init__()
        self.diffusion = LatentDiffusion(
            genes, conditions, hidden=hidden, layers=layers, dropout=dropout, noise=noise
        )

    def fit(
        self,
        counts: Tensor,
        condition: Tensor | None = None,
        *,
        steps: int | None = None,
        seed: int = 0,
        **learning: Unpack[Learning],
    ) -> Iterator[float]:
        """Train in place on counts (N, G); see `LatentDiffusion.fit`."""
        values = normalised(counts.to(self.diffusion.mean))
        return self.diffusion.fit(lambda: values, condition, steps=steps, seed=seed, **learning)

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        sampler: Sampler = dpm_solver_pp_2m,
    ) -> Tensor:
        """Values (n, G), at least 0; see `LatentDiffusion.sample`."""
        values = self.diffusion.sample(
            n, condition, steps=steps, guidance=guidance, sampler=sampler
        )
        return values.clamp_min(0)

    def log_prob(
        self, values: Tensor, condition: Tensor | None = None, **options: Unpack[DensityOptions]
    ) -> Tensor:
        """log p(y | c), (N,), of values (N, G); see `LatentDiffusion.log_prob`."""
        return self.diffusion.log_prob(values, condition, **options)
