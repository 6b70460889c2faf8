r"""Counts about a predicted composition: a story whose decoder says what metadata do not.

    z_n  ~ Normal(0, I_D)                                            what c does not tell of cell n
    eta  = offset_n + decode(z_n gated by c_n)                       log fold to the average cell
    m_n  = library_n * softmax(log average + eta)                    mean counts
    x_ng ~ NegativeBinomial(mean = m_ng, dispersion = theta_ng)      counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

offset_n = log share(c_n) - log average is another predictor's and not learnt here; of the cells of
the fit it must be out of fold, or the story learns too little variance. The decoder starts near 0,
where this is a negative binomial about the prediction. Dispersions go with the means (so types
have their own); `parts.NegativeBinomial` has one a gene. The guide:

    z_n ~ Normal(loc(h_n), scale(h_n)^2),  h_n = encode(log(1 + x_n) gated by c_n)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..inference import ELBO, Plan, fit
from ..parts import DiagonalNormal, Gated, NegativeBinomialByCell, StandardNormal


class Offset(nn.Module):
    """p(z) p(x | z, c, offset, library); pass another `likelihood` or `prior` to swap an edge."""

    def __init__(
        self,
        genes: int,
        conditions: int,
        average: Tensor | None = None,
        latent: int = 10,
        hidden: int = 128,
        decoder_dropout: float = 0.1,
        prior: nn.Module | None = None,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.prior = prior or StandardNormal(latent)
        self.features = Gated(latent, conditions, hidden, decoder_dropout)
        self.decode = nn.Linear(hidden, genes)
        self.decode.weight.data *= 0.1  # not 0, where the features have no gradient
        self.decode.bias.data.zero_()
        self.likelihood = likelihood or NegativeBinomialByCell(genes, average)

    def forward(
        self, library: Tensor, offset: Tensor, condition: Tensor, x: Tensor | None = None
    ) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            counts = self.counts(z, library, offset, condition)
            return pyro.sample("x", counts, obs=x)  # (N, G)

    def counts(
        self, z: Tensor, library: Tensor, offset: Tensor, condition: Tensor
    ) -> TorchDistribution:
        """p(x | z, c): event shape (G,)."""
        eta = offset + self.decode(self.features(z, condition))  # (N, G)
        return self.likelihood(eta, library)


class OffsetGuide(nn.Module):
    """q(z | x, c); pass another `posterior` to swap its family."""

    def __init__(
        self,
        genes: int,
        conditions: int,
        latent: int = 10,
        hidden: int = 128,
        encoder_dropout: float = 0.2,
        posterior: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encode = Gated(genes, conditions, hidden, encoder_dropout)
        self.posterior = posterior or DiagonalNormal(hidden, latent)

    def forward(
        self, library: Tensor, offset: Tensor, condition: Tensor, x: Tensor | None = None
    ) -> None:
        with pyro.plate("cells", len(library)):
            h = self.encode(torch.log1p(x), condition)  # (N, H)
            pyro.sample("z", self.posterior(h))  # (N, D)


def train(
    model: Offset, guide: OffsetGuide, table: Mapping[str, Tensor], plan: Plan, seed: int
) -> None:
    """Fit in place to a table of columns (N, ...); a tenth of the cells decides when to stop."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(table["x"])))
    held, kept = order.tensor_split([len(order) // 10])

    def batches(seed: int) -> list[dict[str, Tensor]]:
        noise = torch.Generator().manual_seed(seed)
        shuffled = kept[torch.randperm(len(kept), generator=noise)]
        return [_rows(table, at) for at in shuffled.split(plan.batch_size)]

    objective = ELBO(model, guide, cells=len(kept))
    deque(fit(objective, batches, lambda: [_rows(table, held)], plan), maxlen=0)


def _rows(table: Mapping[str, Tensor], at: Tensor) -> dict[str, Tensor]:
    return {name: column[at] for name, column in table.items()}
