r"""Classifier-free guidance: more of a condition than data show.

    x0 = x0(x, t) + w (x0(x, t, c) - x0(x, t))

w = 0 is no condition and w = 1 the condition, both exactly. More is sharper than the data:
groups shrink, so a weight is to be read beside `spread_by_weight`.

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
    """Total variance of the states (N, D) that `draw(weight)` gives, relative to weight 1.

    For one condition at a time: below 1 says that cells of it vary less than they should.
    """
    whole = draw(1.0).var(0).sum()
    return {weight: (draw(weight).var(0).sum() / whole).item() for weight in weights}
