r"""Top-down guide of models/hierarchical.py: the model's priors times evidence from counts.

    k_n           = label_n where observed, else softmax(guess(h_n))
    z_type_n      ~ p(z_type | label = k_n)                       cell type
    s_n, t_n      = Normal(loc(h_n), scale(h_n)^2)                from two encoders
    z_state_n     ~ s_n * p(z_state | condition_n), normalised    cell state
    z_technical_n ~ t_n * p(z_technical | batch_n), normalised    technical state

    site         kind    plate  event
    z_type       latent  cells  (D,)
    z_state      latent  cells  (D,)
    z_technical  latent  cells  (D,)

Each h_n is features of log(1 + x_n) gated by condition and batch: all encoders correct for them.
The priors are borrowed from the model; k_n may lie between labels, and counts reach z_type
through k_n alone. In training the guide hides labels by its own random draws, so either half may
condition on a label that the other does not: where only the model does, a wrong guess is costly.

Calibration before and after `Run.sleep`: docs/calibration.md.

Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..nn import concat
from ..parts import DiagonalNormal, Gated, product


class HierarchicalGuide(PyroModule):
    """q(z_type | x, label) q(z_state | x, condition) q(z_technical | x, batch)."""

    def __init__(
        self,
        genes: int,
        model: Any,
        labels: int,
        conditions: int = 0,
        batches: int = 0,
        latent_state: int = 5,
        latent_technical: int = 3,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
    ) -> None:
        super().__init__("HierarchicalGuide")
        self._borrowed = (model,)  # its parameters are the model's
        sizes = genes, conditions + batches, hidden, encoder_dropout
        self.encode_type, self.encode_state, self.encode_technical = (
            Gated(*sizes) for _ in range(3)
        )
        self.guess = nn.Linear(hidden, labels)
        self.state = DiagonalNormal(hidden, latent_state)
        self.technical = DiagonalNormal(hidden, latent_technical)

    def forward(
        self,
        library: Tensor,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        batch: Tensor | None = None,
        x: Tensor | None = None,
    ) -> None:
        assert x is not None  # a guide reads counts
        (model,) = self._borrowed
        label = model.label(label, library)  # (N, K)
        condition = model.condition(condition, library)  # (N, C)
        batch = model.batch(batch, library)  # (N, B)
        with pyro.plate("cells", len(library)):
            seen = torch.log1p(x), concat(condition, batch)  # (N, G), (N, C + B)
            guess = self.guess(self.encode_type(*seen)).softmax(-1)  # (N, K)
            kind = torch.where(label.any(-1, keepdim=True), label, guess)  # (N, K)
            pyro.sample("z_type", model.type_prior.at(kind))  # (N, D)
            state = self.state(self.encode_state(*seen))
            pyro.sample("z_state", product(state, model.state_prior(condition)))  # (N, D)
            technical = self.technical(self.encode_technical(*seen))
            prior = model.technical_prior(batch)
            pyro.sample("z_technical", product(technical, prior))  # (N, D)
