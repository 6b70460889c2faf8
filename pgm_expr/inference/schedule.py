"""Schedules of beta over the epochs of a fit."""

from __future__ import annotations


def warmup(epoch: int, epochs: int) -> float:
    """A linear rise over the first epochs, exactly 1 from then on.

    Parameters
    ----------
    epoch
        The epoch, counted from 0.
    epochs
        Number of epochs below 1.

    Returns
    -------
    float
        The factor of beta in that epoch.

    References
    ----------
    Bowman et al., CoNLL 2016, https://arxiv.org/abs/1511.06349

    Examples
    --------
    >>> [warmup(epoch, epochs=3) for epoch in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return 1.0 if epoch >= epochs else (epoch + 1) / (epochs + 1)


def cyclical(epoch: int, epochs: int, cycles: int) -> float:
    """Several rises within the first epochs, exactly 1 from then on.

    Each cycle rises linearly over its first half and stays at 1 over its second.

    Parameters
    ----------
    epoch
        The epoch, counted from 0.
    epochs
        Number of epochs of all cycles together.
    cycles
        Number of rises.

    Returns
    -------
    float
        The factor of beta in that epoch.

    References
    ----------
    Fu et al., NAACL 2019, https://arxiv.org/abs/1903.10145

    Examples
    --------
    >>> [round(cyclical(epoch, epochs=8, cycles=2), 1) for epoch in range(9)]
    [0.4, 0.8, 1.0, 1.0, 0.4, 0.8, 1.0, 1.0, 1.0]
    """
    if epoch >= epochs:
        return 1.0
    length = epochs / cycles
    return min(1.0, 2 * (epoch % length + 1) / (length + 1))
