r"""Classifier-free guidance of a network of a state, a time and a condition.

    out = f(x, t) + w (f(x, t, c) - f(x, t))

Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def guided(
    network: Callable[..., Tensor], c: Tensor | None, weight: float = 1.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """A network of state and time, guided towards a condition.

    Parameters
    ----------
    network
        Function of x (N, D), t and c (N, C) or None.
    c
        Conditions (N, C); None for none.
    weight
        Guidance w: 0 is unconditional and 1 the condition, both exactly; more exaggerates it.

    Returns
    -------
    Callable
        Function of x and t.

    References
    ----------
    Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598 (whose w is ours - 1)

    Examples
    --------
    >>> import torch
    >>> network = lambda x, t, c: x if c is None else x + c
    >>> guided(network, torch.ones(1, 1), weight=3.0)(torch.zeros(1, 1), 0.5)
    tensor([[3.]])
    """
    if c is None or weight == 0:
        return lambda x, t: network(x, t, None)
    if weight == 1:
        return lambda x, t: network(x, t, c)

    def both(x: Tensor, t: Tensor) -> Tensor:
        none = network(x, t, None)
        return none + weight * (network(x, t, c) - none)

    return both
