r"""The divergence of a velocity: the rate at which volume grows along it.

    div v = tr(dv/dy) = sum_w w' (dv/dy) w        over directions w with sum_w w w' = I

The axes are such directions exactly; random signs are on average (Hutchinson's estimate).

Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor


def with_divergence(
    v: Callable[[Tensor], Tensor], y: Tensor, ways: Tensor
) -> tuple[Tensor, Tensor]:
    """A velocity and its divergence along given directions.

    Parameters
    ----------
    v
        Velocity of states (N, D), (N, D).
    y
        States (N, D).
    ways
        Directions w (W, N or 1, D) that are summed over.

    Returns
    -------
    tuple
        v(y), (N, D), and the sum of w' (dv/dy) w, (N,). Both are differentiable, except under
        `torch.no_grad`.

    Examples
    --------
    >>> import torch
    >>> y = torch.randn(5, 3)
    >>> with_divergence(lambda y: 2 * y, y, ways(y))[1].tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0]
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        y = y if y.requires_grad else y.detach().requires_grad_()
        out = v(y)
    pulled = (
        torch.autograd.grad(out, y, way.expand_as(out), retain_graph=True, create_graph=wanted)[0]
        for way in ways
    )
    terms = ((way * each).sum(-1) for way, each in zip(ways, pulled, strict=True))
    total = reduce(torch.add, terms)
    return (out if wanted else out.detach()), total


def ways(x: Tensor, *, exact: int = 32, probes: int = 8) -> Tensor:
    """Directions along which to take a divergence: axes in few dimensions, random signs in many.

    Parameters
    ----------
    x
        States (N, D).
    exact
        Largest D for which the axes are used.
    probes
        Number of random signs above it.

    Returns
    -------
    Tensor
        Axes (D, 1, D) or signs (probes, N, D), such that sum_w w w' is I, exactly or on average.

    Examples
    --------
    >>> import torch
    >>> ways(torch.zeros(5, 3)).shape, ways(torch.zeros(5, 40)).shape
    (torch.Size([3, 1, 3]), torch.Size([8, 5, 40]))
    """
    if x.shape[1] <= exact:
        return torch.eye(x.shape[1]).to(x).unsqueeze(1)
    return torch.randn(probes, *x.shape).to(x).sign() / probes**0.5
