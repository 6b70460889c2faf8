"""Training of a generator or prior on posteriors: new draws each epoch, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Draw = Callable[[], Tensor]  # a new draw of every cell's state, (N, D)
Loss = Callable[[Tensor, Tensor | None], Tensor]  # of states (B, D) and conditions (B, C): (B,)


class Learning(TypedDict, total=False):
    """Options of `learn` that generators pass on."""

    batch_size: int
    learning_rate: float
    decay: float


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
    """Train a module in place on posterior draws with Adam, one epoch at a time.

    After the last step the weights are their exponential moving average, in evaluation mode.

    Parameters
    ----------
    module
        The module to train.
    loss
        Loss of states (B, D) and conditions (B, C) or None, (B,).
    posterior
        A function that draws the states of all cells, (N, D). It is called once an epoch, so that
        no single draw is overfitted.
    condition
        Conditions (N, C), row i for row i of every draw.
    steps
        Number of steps.
    batch_size
        States in a minibatch.
    learning_rate
        First learning rate, which falls to 0 along a cosine.
    decay
        Decay of the moving average of weights; smaller where steps are few.
    seed
        Seed of draws, order and noise. The caller's generator is left alone.

    Yields
    ------
    float
        Mean loss of each epoch.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> module = nn.Linear(2, 2)
    >>> losses = list(learn(module, lambda z, c: (module(z) - z).square().sum(-1),
    ...                     lambda: torch.randn(64, 2), steps=30, learning_rate=0.05))
    >>> losses[-1] < losses[0]
    True
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
                optimizer.step()
                schedule.step()
                average.update_parameters(module)
                losses.append(part.detach())
        done += len(losses)
        yield torch.stack(losses).mean().item()
        if done >= steps:
            break
    module.load_state_dict(average.module.state_dict())
    module.eval()
