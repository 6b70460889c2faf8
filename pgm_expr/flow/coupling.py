"""Which noise starts the path to which state: functions (x_0, x_1, c) -> x_0 in a new order.

A permutation keeps noise noise, and conditions with their states.

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
    """Noise (N, D) as it comes."""
    return noise


@torch.no_grad()
def optimal_transport(noise: Tensor, x: Tensor, c: Tensor | None = None) -> Tensor:
    """The order of noise (N, D) in which its squared distance to states x (N, D) is least.

    Paired regardless of conditions, the noise of a condition would be no Normal(0, I), while
    draws under it start there. So noise i comes with condition c_i, of which it knows nothing,
    and distance between conditions costs far more than between states: equal conditions swap
    noise, as do continuous ones about 0.01 apart; those further apart don't.

    Cheng and Schwing, 2025, https://arxiv.org/abs/2503.10636
    """
    cost = torch.cdist(x, noise) ** 2  # (N, N): state i, noise j
    if c is not None:
        cost = cost + APART * torch.cdist(c, c) ** 2
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.as_tensor(order, device=noise.device)]
