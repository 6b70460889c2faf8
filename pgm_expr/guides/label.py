r"""Amortised guide of models/label.py: the class of each cell, enumerated, and its state.

    h_n = encode(log(1 + x_n))
    y_n ~ Categorical(softmax(head(loc(h_n))) * confusion(label_n | .))    class, enumerated
    z_n ~ Normal(loc(h_n), scale(h_n)^2)                                   state of cell n

    site  kind    plate  event
    y     latent  cells  ()
    z     latent  cells  (D,)

The classifier is linear in the state and learns from recorded labels only, by the auxiliary term
of the objective `enum`; in plain Pyro, add -log q(label | x) by `classify` to the loss. Its
gradient does not reach the encoder, which would overfit the few labelled cells: labels reach the
encoder through p(z | y).

Calibration before and after `Run.sleep`: docs/calibration.md.

Kingma et al., NeurIPS 2014, https://arxiv.org/abs/1406.5298
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import features
from ..parts import ClassHead, Confusion, DiagonalNormal


class LabelGuide(PyroModule):
    """q(y | x, label) q(z | x); pass another `posterior` to swap the family of z."""

    def __init__(
        self,
        genes: int,
        labels: int,
        latent: int = 15,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        noise: float = 0.0,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__("LabelGuide")
        self.encode = features(genes, hidden, dropout=encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)
        self.head = ClassHead(latent, labels)
        self.confusion = Confusion(labels, noise)

    def classify(self, x: Tensor) -> Tensor:
        """log q(label | x) of the recorded label, (N, K): label noise is included."""
        return self.confusion.recorded(self._classes(self.encode(torch.log1p(x))))

    def forward(self, library: Tensor, label: Tensor, x: Tensor) -> None:
        h = self.encode(torch.log1p(x))  # (N, H)
        logits = self._classes(h).detach() + self.confusion.evidence(label)  # (N, K)
        with pyro.plate("cells", len(library)):
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("z", self.posterior(h))  # (N, D)

    def _classes(self, h: Tensor) -> Tensor:
        loc = self.posterior.get_submodule("loc")
        return self.head(loc(h).detach()).logits
