r"""Classifier-free guidance: a condition, exaggerated.

    x0 = x0(x, t) + w (x0(x, t, c) - x0(x, t))

w = 0 is unconditional and w = 1 the condition, both exactly. Larger w gives groups that vary less
than the data: report a weight together with `spread_by_weight`.

Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..nn.guidance import guided

__all__ = ["guided", "spread_by_weight"]


def spread_by_weight(
    draw: Callable[[float], Tensor], weights: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 5.0)
) -> dict[float, float]:
    """Total variance of guided draws, relative to guidance weight 1.

    Parameters
    ----------
    draw
        `draw(weight)` gives states (N, D) of one condition.
    weights
        Weights to compare.

    Returns
    -------
    dict
        Variance by weight; below 1, cells of that condition vary less than they should.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(100, 2)
    >>> found = spread_by_weight(lambda weight: z / weight, weights=(1.0, 2.0))
    >>> {weight: round(spread, 3) for weight, spread in found.items()}
    {1.0: 1.0, 2.0: 0.25}
    """
    whole = draw(1.0).var(0).sum()
    return {weight: (draw(weight).var(0).sum() / whole).item() for weight in weights}
