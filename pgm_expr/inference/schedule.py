"""How a modifier moves over the epochs of a fit."""

from __future__ import annotations


def warmup(epoch: int, epochs: int) -> float:
    """A linear rise over the first `epochs` epochs (counted from 0), exactly 1 from then on.

    Bowman et al., CoNLL 2016, https://arxiv.org/abs/1511.06349
    """
    return 1.0 if epoch >= epochs else (epoch + 1) / (epochs + 1)


def cyclical(epoch: int, epochs: int, cycles: int) -> float:
    """`cycles` rises within the first `epochs` epochs, exactly 1 from then on.

    Each cycle rises linearly over its first half and stays at 1 over its second.
    Fu et al., NAACL 2019, https://arxiv.org/abs/1903.10145
    """
    if epoch >= epochs:
        return 1.0
    length = epochs / cycles
    return min(1.0, 2 * (epoch % length + 1) / (length + 1))
