r"""The objective of stories with labels: the label is summed out, and its classifier is trained.

    sum_y q(y | x, label) (E_q log p(x, z, y, label) / q(z | x) - log q(y | x, label))
        + aux * mean over the labelled cells of log q(label | x)

The second line is not part of the bound. Without it the recorded labels would not train the
classifier, which only unlabelled cells use (Kingma et al., NeurIPS 2014,
https://arxiv.org/abs/1406.5298, eq. 9). Every objective sums over a site that the guide
enumerates; this one adds the classifier's term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .objective import ELBO


def amount(text: str | float) -> float:
    """Check a weight, given as a number or in an objective's name."""
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"aux must be a number of at least 0: got {text}.")
    return value


class Enum(ELBO):
    """The ELBO plus `aux` times the classifier's log-probability of the recorded labels.

        ELBO + aux * mean over labelled cells of log q(label | x)

    Parameters
    ----------
    model, guide, cells, particles
        See `Objective`. The guide defines `classify(x)`: log-probabilities of labels, (N, K).
    aux
        Weight of the classifier's term in the loss, at least 0. The bound is without it.

    Raises
    ------
    ValueError
        If the guide has no `classify`, or `aux` is negative.

    References
    ----------
    Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298

    Examples
    --------
    >>> import torch
    >>> from pgm_expr import zoo
    >>> pair = zoo.build(zoo.STORIES["label"], {"genes": 5, "labels": 3})
    >>> objective = Enum(*pair, cells=8, aux=2.0)
    >>> batch = {"x": torch.ones(8, 5), "library": torch.full((8, 1), 5.0)}
    >>> batch["label"] = torch.tensor([0, 1, 2, -1, -1, -1, -1, -1])  # -1 is unlabelled
    >>> objective(**batch).shape, objective.per_cell(**batch).shape
    (torch.Size([]), torch.Size([8]))
    """

    numbers: ClassVar[Mapping[str, Callable]] = {"aux": amount}
    aux: Tensor

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
                f"enum trains guide.classify(x), which {type(guide).__name__} lacks. Use elbo."
            )
        self.register_buffer("aux", torch.tensor(amount(aux)), persistent=False)

    def forward(self, **batch: Tensor) -> Tensor:
        loss = super().forward(**batch)
        return loss - self.aux * self._log_classified(batch["x"], batch["label"])

    def _log_classified(self, x: Tensor, label: Tensor) -> Tensor:
        """Mean log q(label | x) over the labelled cells, 0 without any."""
        labelled = (label >= 0).to(x.dtype)
        guide: Any = self.guide
        rows = guide.classify(x).gather(-1, label.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return (rows * labelled).sum() / labelled.sum().clamp_min(1)
