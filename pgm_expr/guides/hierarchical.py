r"""Top-down guide of models/hierarchical.py: the model's own priors, read with the counts.

    k_n           = label_n if known, else softmax(guess(h_n))
    z_type_n      ~ p(z_type | label = k_n)                   what kind of cell
    s_n, t_n      = Normal(loc(h_n), scale(h_n)^2)            of encoders of their own
    z_state_n     ~ s_n * p(z_state | condition_n), normed    what it is doing
    z_technical_n ~ t_n * p(z_technical | batch_n), normed    how it was measured

    site         kind    plate  event
    z_type       latent  cells  (D,)
    z_state      latent  cells  (D,)
    z_technical  latent  cells  (D,)

Each h_n is features of log(1 + x_n) gated by condition and batch: all encoders correct for them.
The priors are borrowed from the model; a guess may lie between its labels, and nothing else of a
cell reaches z_type. In training the guide hides labels by draws of its own, so either half may
know one that the other does not: where only the model does, a wrong guess of z_type is costly.

Where it is wrong (benchmarks/sbc.py --epochs 40): intervals of z_type, z_state, z_technical
cover more than .03 too much or too little. All latents together are too narrow: the central
half holds 43% of true states; coverage is off by up to 0.09, and by 0.17 in one dimension of
z_state. After `Run.sleep` (--sleep 4000) it is right within 0.024 in every dimension, 0.006 in
all together, and the central half holds 50%.

Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282
"""

from __future__ import annotations

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
        model: nn.Module,
        labels: int,
        conditions: int = 0,
        batches: int = 0,
        latent_state: int = 5,
        latent_technical: int = 3,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
    ) -> None:
        super().__init__("HierarchicalGuide")
        self._borrowed = (model,)
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
