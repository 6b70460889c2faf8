"""Couplings of noise x_0 and states x_1: functions (x_0, x_1, c) -> x_0 in a new order.

A permutation leaves the distribution of noise as it is, and conditions with their states.

Tong et al., TMLR 2024, https://arxiv.org/abs/2302.00482
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Coupling = Callable[[Tensor, Tensor, Tensor | None], Tensor]
APART = 1e4  # cost of a unit between conditions, beside squared distances of standardised states


def independent(noise: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
    """Noise and states in their given order, which is independent.

    Parameters
    ----------
    noise
        Draws of Normal(0, I), (N, D).
    x
        States (N, D); not used.
    c
        Conditions (N, C); not used.

    Returns
    -------
    Tensor
        The noise, (N, D).

    Examples
    --------
    >>> import torch
    >>> independent(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[0., 0.]])
    """
    return noise


@torch.no_grad()
def optimal_transport(noise: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
    """The order of noise that minimises its squared distance to states.

    If noise were paired regardless of conditions, the noise of one condition would not be
    Normal(0, I), while draws given that condition start there. So noise i is assigned condition
    c_i, independently of its value, and a distance between conditions costs far more than one
    between states: equal conditions exchange noise, as do continuous ones about 0.01 apart.

    Parameters
    ----------
    noise
        Draws of Normal(0, I), (N, D).
    x
        States (N, D).
    c
        Conditions (N, C), or None for none.

    Returns
    -------
    Tensor
        The noise in a new order, (N, D).

    References
    ----------
    Tong et al., TMLR 2024, https://arxiv.org/abs/2302.00482
    Cheng and Schwing, 2025, https://arxiv.org/abs/2503.10636 (conditions)

    Examples
    --------
    >>> import torch
    >>> noise, x = torch.tensor([[1.0], [-1.0]]), torch.tensor([[-5.0], [5.0]])
    >>> optimal_transport(noise, x)
    tensor([[-1.],
            [ 1.]])
    """
    cost = torch.cdist(x, noise) ** 2  # (N, N): state i, noise j
    if c is not None:
        cost = cost + APART * torch.cdist(c, c) ** 2
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.as_tensor(order, device=noise.device)]
