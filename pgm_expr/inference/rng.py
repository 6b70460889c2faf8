"""Random numbers of one block of code, independent of the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

VALIDATION_SEED = 1  # of all draws that judge: equal noise pairs epochs, and runs


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for the block and restore the caller's generator afterwards.

    Parameters
    ----------
    seed
        Seed of torch's generators, on the CPU and on all devices.

    Examples
    --------
    >>> import torch
    >>> with seeded(0):
    ...     first = torch.rand(3)
    >>> with seeded(0):
    ...     second = torch.rand(3)
    >>> torch.equal(first, second)
    True
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
