"""The generators that learn a story's states, by the names a user types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from torch import Tensor

from ..diffusion import LatentDiffusion
from ..flow import ContinuousFlow, FlowMatching, SplineFlow


class Generator(Protocol):
    """A torch module that learns states (N, D), given conditions (N, C) or none."""

    def fit(
        self,
        posterior: Callable[[], Tensor],
        condition: Tensor | None = None,
        *,
        steps: int = ...,
        seed: int = ...,
    ) -> Iterator[float]: ...

    def sample(self, n: int, condition: Tensor | None = None, **how: object) -> Tensor: ...


GENERATORS: Mapping[str, Callable[..., Generator]] = {
    "diffusion": LatentDiffusion,
    "flow": SplineFlow,
    "cnf": ContinuousFlow,
    "matching": FlowMatching,
}
