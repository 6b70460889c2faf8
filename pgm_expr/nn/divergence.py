r"""The divergence of a velocity, which says how a volume changes along it.

    div v = tr(dv/dy) = sum_w w' (dv/dy) w        over ways w with sum_w w w' = I

The axes are such ways, exactly; random signs are on average (Hutchinson's estimate).

Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def with_divergence(
    v: Callable[[Tensor], Tensor], y: Tensor, ways: Tensor
) -> tuple[Tensor, Tensor]:
    """v (N, D) at y (N, D), and the sum over ways w (W, N or 1, D) of w' (dv/dy) w, (N,).

    Both can be differentiated again where gradients are wanted; under no_grad neither can.
    """
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        y = y if y.requires_grad else y.detach().requires_grad_()
        out = v(y)
    pulled = (
        torch.autograd.grad(out, y, way.expand_as(out), retain_graph=True, create_graph=wanted)[0]
        for way in ways
    )
    total = sum((way * each).sum(-1) for way, each in zip(ways, pulled, strict=True))
    return (out if wanted else out.detach()), total


def ways(x: Tensor, *, exact: int = 32, probes: int = 8) -> Tensor:
    """The axes (D, 1, D) of x (N, D) up to `exact` of them, above that signs (probes, N, D)."""
    if x.shape[1] <= exact:
        return torch.eye(x.shape[1]).to(x).unsqueeze(1)
    return torch.randn(probes, *x.shape).to(x).sign() / probes**0.5
