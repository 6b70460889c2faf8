r"""Binomial thinning: two independent halves of the counts of each cell.

    a_ng ~ Binomial(x_ng, share),  b_ng = x_ng - a_ng

If x_ng ~ Poisson(m) then a and b are independent Poisson counts with means share m and
(1 - share) m. A state inferred from a and judged on b is not judged on what it was inferred from,
unlike a story's expectation of x given x.

Wang et al., Nature Methods 2018, https://doi.org/10.1038/s41592-018-0033-z
Neufeld et al., Biostatistics 2024, https://doi.org/10.1093/biostatistics/kxac047
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from ...predict import SEED, Batch


def halves(
    batches: Iterable[Mapping[str, Tensor]], share: float = 0.5, *, empty: bool = False
) -> Iterator[tuple[Batch, Batch]]:
    """Split each minibatch into two, whose counts sum to its counts.

    Parameters
    ----------
    batches
        Minibatches with counts `x`, (N, G).
    share
        Expected share of the counts in the first half.
    empty
        Allow a half without a count, whose library is then 1.

    Yields
    ------
    first, second
        Minibatches with the counts of one half and their library; other entries stay.

    Raises
    ------
    ValueError
        Where `share` is not between 0 and 1, or a half of a cell has no count.

    Examples
    --------
    >>> x = torch.full((2, 3), 10.0)
    >>> ((first, second),) = halves([{"x": x, "library": x.sum(-1, keepdim=True)}])
    >>> torch.equal(first["x"] + second["x"], x)
    True
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1: got {share}.")
    noise = torch.Generator().manual_seed(SEED)
    for batch in batches:
        x = batch["x"]
        drawn = torch.binomial(x.double().cpu(), torch.full(x.shape, share).double(), noise)
        first = drawn.to(x)
        yield _of(batch, first, empty), _of(batch, x - first, empty)


def _of(batch: Mapping[str, Tensor], x: Tensor, allowed: bool) -> Batch:
    library = x.sum(-1, keepdim=True)
    empty = int((library == 0).sum())
    if empty and not allowed:
        raise ValueError(
            f"thinning: {empty} cells have no count in one half. Leave out cells of few counts."
        )
    return {**batch, "x": x, "library": library.clamp_min(1)}
