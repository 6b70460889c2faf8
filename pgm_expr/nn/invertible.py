r"""Learned invertible maps x -> u of vectors, given a context c: autoregressive flows.

    affine   u_d = shift_d(x_<d, c) + exp(log_scale_d(x_<d, c)) x_d
    spline   u_d = s_d(x_d; x_<d, c), a monotonic rational-quadratic spline within [-5, 5] and
             the identity outside

A masked network computes all shifts, scales and knots at once, so that x -> u takes one pass and
its inverse takes D. Several maps are composed, with the order of dimensions reversed from one to
the next. `call_and_ladj(x)` of a map gives u and log |det du/dx|.

The maps are Zuko's, https://zuko.readthedocs.io. It is imported in this file only, because its
import disables torch's validation of arguments for the whole process; that is undone here.

Papamakarios et al., NeurIPS 2017, https://arxiv.org/abs/1705.07057 (affine)
Durkan et al., NeurIPS 2019, https://arxiv.org/abs/1906.04032 (spline)
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributions import Distribution

_validate = Distribution._validate_args
from zuko import flows  # noqa: E402
from zuko.transforms import ComposedTransform  # noqa: E402

Distribution.set_default_validate_args(_validate)

__all__ = ["ComposedTransform", "affine_map", "near_identity", "spline_map"]


def affine_map(
    size: int, context: int = 0, *, transforms: int = 2, hidden: int = 32, layers: int = 2
) -> nn.Module:
    """Masked autoregressive affine maps.

    Parameters
    ----------
    size
        Dimensions D of a vector.
    context
        Dimensions of the context; 0 for none.
    transforms
        Number of composed maps.
    hidden, layers
        Width and number of hidden layers of each map's network.

    Returns
    -------
    nn.Module
        `module(c)` is the map given the context c (..., context), or None for none.

    Examples
    --------
    >>> import torch
    >>> f = affine_map(3)(None)
    >>> u, ladj = f.call_and_ladj(torch.zeros(7, 3))
    >>> u.shape, ladj.shape
    (torch.Size([7, 3]), torch.Size([7]))
    >>> bool(f.inv(u).abs().max() < 1e-5)
    True
    """
    return flows.MAF(size, context, transforms, **_network(hidden, layers)).transform


def spline_map(
    size: int,
    context: int = 0,
    *,
    transforms: int = 3,
    hidden: int = 32,
    layers: int = 2,
    bins: int = 8,
) -> nn.Module:
    """Masked autoregressive monotonic splines.

    Parameters
    ----------
    size
        Dimensions D of a vector.
    context
        Dimensions of the context; 0 for none.
    transforms
        Number of composed maps.
    hidden, layers
        Width and number of hidden layers of each map's network.
    bins
        Number of pieces of each spline.

    Returns
    -------
    nn.Module
        `module(c)` is the map given the context c (..., context), or None for none.

    Examples
    --------
    Outside [-5, 5] a spline is the identity.

    >>> import torch
    >>> spline_map(1)(None)(torch.tensor([[8.0]])).item()
    8.0
    """
    return flows.NSF(
        size, context, bins, transforms=transforms, **_network(hidden, layers)
    ).transform


def near_identity(composed: nn.Module) -> nn.Module:
    """Shrink the last layer of each map's network, in place, so that it starts near the identity.

    To a tenth and not to 0, where the hidden layers would have no gradient. A map of one
    dimension without context has no network: there its parameters are shrunk.

    Parameters
    ----------
    composed
        A map of `affine_map` or `spline_map`.

    Returns
    -------
    nn.Module
        The same map.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(100, 2)
    >>> f = near_identity(affine_map(2, transforms=1))(None)
    >>> bool((f(x) - x).abs().max() < 0.1)
    True
    """
    transforms: Any = composed.transforms
    for transform in transforms:
        readout = transform.hyper[-1] if hasattr(transform, "hyper") else transform
        for parameter in readout.parameters():
            parameter.data *= 0.1
    return composed


def _network(hidden: int, layers: int) -> dict:
    """Options of a smooth network, so that the density is smooth too."""
    return {"hidden_features": layers * (hidden,), "activation": nn.SiLU}
