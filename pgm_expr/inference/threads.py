"""Number of threads for small minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW_ENTRIES = 100_000  # counts in a minibatch


@contextmanager
def few_threads(entries: int) -> Iterator[None]:
    """Use one thread for small minibatches, and restore the number afterwards.

    More threads gain a tenth on an idle machine; on a busy one they wait for each other at every
    operation and are ten times slower.

    Parameters
    ----------
    entries
        Counts in a minibatch; below 100,000 there is one thread.

    Examples
    --------
    >>> with few_threads(entries=128 * 200):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if entries < FEW_ENTRIES else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
