r"""A baseline: diffusion of log values, in the space of genes.

    y_ng = log(1 + size x_ng / library_n)          library_n = sum_g x_ng, of the same genes

Values are standardised by gene and diffused as any states are. A draw is clipped at 0. The way
back needs a library, and is lossy:

    rho = expm1(y) / sum_g expm1(y)                the library asked is the library meant
    rounded   x = round(library rho)
    drawn     x ~ Poisson(library rho)

Rounding gives a cell back exactly at its own library. At a smaller one it sets to 0 what expects
less than 1/2, so that lowly expressed genes vanish; and its library is a little off. A Poisson
draw keeps every mean, but values have the noise of counting in them already: it counts twice, and
counts vary by up to their mean too much. Diffusion also spreads exact zeros into small values.
None of this is in `LatentDiffusion` of a count story's states or in `DiscreteDiffusion`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .latent import LatentDiffusion

SIZE = 1e4  # counts a cell is scaled to


def normalised(counts: Tensor) -> Tensor:
    """Log values (N, G) of counts (N, G); a cell of no counts has none."""
    library = counts.sum(-1, keepdim=True)
    return (SIZE * counts / library.clamp_min(1)).log1p()


def expected(values: Tensor, library: Tensor) -> Tensor:
    """Mean counts (N, G) that values (N, G) mean at a library (N, 1)."""
    rate = values.clamp_min(0).expm1()
    return library * rate / rate.sum(-1, keepdim=True).clamp_min(1e-12)


def rounded(values: Tensor, library: Tensor) -> Tensor:
    """Counts (N, G) nearest to those expected."""
    return expected(values, library).round()


def drawn(values: Tensor, library: Tensor) -> Tensor:
    """Counts (N, G) drawn about those expected."""
    return torch.poisson(expected(values, library))


class ValueDiffusion(LatentDiffusion):
    """Log values (N, G) under conditions (N, C), learnt from counts (N, G)."""

    def fit(
        self, counts: Tensor, condition: Tensor | None = None, **learning: float
    ) -> Iterator[float]:
        """Train in place; yields the mean loss of each epoch. Options are LatentDiffusion's."""
        values = normalised(counts.to(self.mean))
        return super().fit(lambda: values, condition, **learning)

    def sample(self, n: int, condition: Tensor | None = None, **options: float) -> Tensor:
        """Log values (n, G), none below 0; `rounded` and `drawn` make counts of them."""
        return super().sample(n, condition, **options).clamp_min(0)
