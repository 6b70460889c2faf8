r"""Classifier-free guidance of any network of a state, a time and a condition.

    out = f(x, t) + w (f(x, t, c) - f(x, t))

Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def guided(
    network: Callable[..., Tensor], c: Tensor | None, weight: float = 1.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """(x, t) -> out of `network(x, t, c)` under c (N, C); None asks for no condition."""
    if c is None or weight == 0:
        return lambda x, t: network(x, t, None)
    if weight == 1:
        return lambda x, t: network(x, t, c)

    def both(x: Tensor, t: Tensor) -> Tensor:
        none = network(x, t, None)
        return none + weight * (network(x, t, c) - none)

    return both
