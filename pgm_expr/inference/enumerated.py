r"""The objective of stories with labels: a discrete latent summed over, its classifier taught.

    sum_y q(y | x, label) (E_q log p(x, z, y, label) / q(z | x) - log q(y | x, label))
        + aux * mean over the labelled cells of log q(label | x)

Without the second line, which is no part of the bound, nothing tells the classifier of unlabelled
cells what the labels are (Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298, eq. 9).
Any objective sums over a site that the guide enumerates; this one adds the classifier's term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from .objective import ELBO


def amount(text: str | float) -> float:
    """A weight of at least 0, as a number or as written in an objective's name."""
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"aux must be a number of at least 0: got {text}.")
    return value


class Enum(ELBO):
    """`ELBO` and `aux` times the classifier's log-probability of recorded labels.

    For guides with `classify(x)` -> (N, K) log-probabilities of labels; ValueError for others.
    """

    numbers: ClassVar[Mapping[str, Callable]] = {"aux": amount}

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        *,
        cells: float,
        particles: int = 1,
        aux: float = 1.0,
    ) -> None:
        super().__init__(model, guide, cells=cells, particles=particles)
        if not hasattr(guide, "classify"):
            raise ValueError(
                f"enum teaches guide.classify(x), which {type(guide).__name__} lacks."
            )
        self.register_buffer("aux", torch.tensor(amount(aux)), persistent=False)

    def forward(self, **batch: Tensor) -> Tensor:
        return super().forward(**batch) - self.aux * self._told(batch["x"], batch["label"])

    def _told(self, x: Tensor, label: Tensor) -> Tensor:
        """Mean log q(label | x) over the labelled cells, 0 without any."""
        known = (label >= 0).to(x.dtype)
        rows = self.guide.classify(x).gather(-1, label.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return (rows * known).sum() / known.sum().clamp_min(1)
