"""Randomness that belongs to one block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The same noise at every run of a block, and the caller's generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
