"""How a generator learns from posteriors: fresh draws each epoch, and an average of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .condition import check_condition

Draw = Callable[[], Tensor]  # a new draw of every cell's state, (N, D)
Loss = Callable[[Tensor, Tensor | None], Tensor]  # of states (B, D) and conditions (B, C): (B,)


def learn(
    module: nn.Module,
    loss: Loss,
    posterior: Draw,
    condition: Tensor | None = None,
    *,
    steps: int = 4000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    decay: float = 0.999,
    seed: int = 0,
) -> Iterator[float]:
    """Train a module in place for `steps` steps of Adam; yields the mean loss of each epoch.

    States are drawn from the posterior afresh each epoch, so that none is learnt by heart; row i
    of `condition` (N, C) goes with row i of every draw. The rate falls to 0 along a cosine. At
    the end the weights are their exponential moving average (`decay`, shorter for few steps).
    """
    optimizer = torch.optim.Adam(module.parameters(), learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    smooth = get_ema_multi_avg_fn(min(decay, 1 - 10 / (10 + steps)))
    average = AveragedModel(module, multi_avg_fn=smooth)
    done = 0
    for epoch in count():
        with torch.random.fork_rng():
            torch.manual_seed(seed * 1_000_003 + epoch)
            z, losses = posterior(), []
            for at in torch.randperm(len(z)).split(min(batch_size, len(z)))[: steps - done]:
                part = loss(z[at], None if condition is None else condition[at]).mean()
                optimizer.zero_grad()
                part.backward()
                optimizer.step(), schedule.step()
                average.update_parameters(module)
                losses.append(part.detach())
        done += len(losses)
        yield torch.stack(losses).mean().item()
        if done >= steps:
            break
    module.load_state_dict(average.module.state_dict())
    module.eval()


def learn_standardised(
    module: nn.Module,
    loss: Loss,
    posterior: Draw,
    condition: Tensor | None = None,
    *,
    seed: int = 0,
    **learning: float,
) -> Iterator[float]:
    """`learn` draws (N, D) in units of the first one, kept as `module.mean` and `module.scale`.

    ValueError where `condition` is not (N, `module.conditions`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = posterior()
    check_condition(condition, len(first), module.conditions)
    module.mean.copy_(first.mean(0))
    module.scale.copy_(first.std(0).clamp_min(1e-6))

    def draw() -> Tensor:
        return (posterior() - module.mean) / module.scale

    yield from learn(module, loss, draw, condition, seed=seed, **learning)
