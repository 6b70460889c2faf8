"""The interface of generators of latent states, and how they are fitted to posteriors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from .learn import Draw, Learning, learn


class StateGenerator(nn.Module, ABC):
    """Base class of generators p(z | c) of states z (N, D), given conditions c (N, C) or none.

    A subclass defines `loss`, `sample` and `log_prob`. It works in standardised states,
    (z - mean) / scale; `fit` sets mean and scale from the first draw.

    Parameters
    ----------
    size
        Dimensions D of a state.
    conditions
        Number of encoded conditions C; 0 for none.

    Attributes
    ----------
    default_steps
        Training steps of `fit` if it is called without `steps`.
    mean, scale
        Mean and standard deviation of states, (D,).

    Examples
    --------
    >>> from pgm_expr.flow import SplineFlow
    >>> issubclass(SplineFlow, StateGenerator), SplineFlow.default_steps
    (True, 2000)
    """

    default_steps: ClassVar[int] = 4000
    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, conditions: int = 0) -> None:
        super().__init__()
        self.size, self.conditions = size, conditions
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @abstractmethod
    def loss(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The loss of each standardised state x (N, D) given c (N, C): (N,)."""

    @abstractmethod
    def sample(self, n: int, condition: Tensor | None = None) -> Tensor:
        """States (n, D), row i given row i of `condition` (n, C)."""

    @abstractmethod
    def log_prob(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(z | c), (N,), of states z (N, D)."""

    def fit(
        self,
        posterior: Draw,
        condition: Tensor | None = None,
        *,
        steps: int | None = None,
        seed: int = 0,
        **learning: Unpack[Learning],
    ) -> Iterator[float]:
        """Train in place on draws from posteriors, one epoch at a time.

        Parameters
        ----------
        posterior
            A function that returns new draws of the states of all cells at each call, (N, D).
        condition
            Conditions (N, C), row i for state i; None for a generator without conditions.
        steps
            Optimiser steps; `default_steps` by default.
        seed
            Seed of draws, order and noise. The caller's random state is not changed.
        **learning
            batch_size, learning_rate and decay of `learn`.

        Yields
        ------
        float
            Mean loss of each epoch.

        Raises
        ------
        ValueError
            If `condition` is not (N, C).

        Examples
        --------
        >>> import torch
        >>> from pgm_expr.flow import SplineFlow
        >>> flow = SplineFlow(size=2)
        >>> losses = list(flow.fit(lambda: 5 + torch.randn(64, 2), steps=3))
        >>> len(losses), bool((flow.mean > 4).all())
        (3, True)
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            first = posterior()
        check_condition(condition, len(first), self.conditions)
        self.mean.copy_(first.mean(0))
        self.scale.copy_(first.std(0).clamp_min(1e-6))

        def draw() -> Tensor:
            return (posterior() - self.mean) / self.scale

        steps = self.default_steps if steps is None else steps
        yield from learn(self, self.loss, draw, condition, steps=steps, seed=seed, **learning)


def check_condition(
    condition: Tensor | None, n: int, conditions: int, *, optional: bool = False
) -> None:
    """Check the shape of a generator's conditions.

    Parameters
    ----------
    condition
        Conditions of n states, or None.
    n
        Number of states.
    conditions
        Number C of conditions of the generator.
    optional
        Whether None is allowed although C is not 0.

    Raises
    ------
    ValueError
        If `condition` is not (n, C), or not None where C is 0.

    Examples
    --------
    >>> import torch
    >>> check_condition(torch.zeros(3, 1), n=4, conditions=2)
    Traceback (most recent call last):
        ...
    ValueError: condition must be (4, 2), got (3, 1). Give a row for each state.
    """
    if condition is None and (optional or not conditions):
        return
    wanted, got = (n, conditions), None if condition is None else tuple(condition.shape)
    if not conditions:
        raise ValueError(f"this generator has no conditions, got {got}. Leave `condition` out.")
    if got != wanted:
        raise ValueError(f"condition must be {wanted}, got {got}. Give a row for each state.")
