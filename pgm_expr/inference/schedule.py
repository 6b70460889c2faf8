"""How a modifier moves over the epochs of a fit."""

from __future__ import annotations


def warmup(epoch: int, epochs: int) -> float:
    """A linear rise over the first `epochs` epochs (counted from 0), exactly 1 from then on.

    Bowman et al., CoNLL 2016, https://arxiv.org/abs/1511.06349
    """
    return 1.0 if epoch >= epochs else (epoch + 1) / (epochs + 1)
