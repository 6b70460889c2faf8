"""How many threads small minibatches are worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW_ENTRIES = 100_000  # counts in a minibatch


@contextmanager
def few_threads(entries: int) -> Iterator[None]:
    """One thread for small minibatches: more gain a tenth on an idle machine, and on a busy one
    they wait for each other at every operation and lose tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if entries < FEW_ENTRIES else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
