r"""Counts about a composition that another model predicts: states hold what metadata do not.

    z_n   ~ Normal(0, I_D)                                         state of cell n
    eta_n = offset_n + decode(z_n gated by c_n)                    log fold changes
    m_n   = library_n * softmax(log average + eta_n)               mean counts
    x_ng  ~ NegativeBinomial(mean = m_ng, dispersion = theta_ng)   counts

    site  kind      plate  event
    z     latent    cells  (D,)
    x     observed  cells  (G,)

c_n are covariates of the cell, and offset_n = log share(c_n) - log average, (G,), is the log fold
change that a predictor of compositions expects from them; it is 0 where it is not given. It is not
learned here: for the cells of the fit it must be predicted out of fold, or the story
underestimates the variance. The decoder starts near 0, where the story is a negative binomial
about the prediction. Dispersions are functions of eta, so that types of cells differ in theirs.
"""

from __future__ import annotations

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..parts import Gated, NegativeBinomialByCell, StandardNormal


class Offset(PyroModule):
    """p(z) p(x | z, c, offset, library); pass another `prior` or `likelihood` to swap an edge."""

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
        super().__init__("Offset")
        self.prior = prior or StandardNormal(latent)
        self.features = Gated(latent, conditions, hidden, decoder_dropout)
        self.decode = nn.Linear(hidden, genes)
        self.decode.weight.data *= 0.1  # not 0, where the features have no gradient
        self.decode.bias.data.zero_()
        self.likelihood = likelihood or NegativeBinomialByCell(genes, average)

    def forward(
        self,
        library: Tensor,
        condition: Tensor,
        offset: Tensor | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", self.prior())  # (N, D)
            eta = self.eta(z, condition, offset)  # (N, G)
            return pyro.sample("x", self.likelihood(eta, library), obs=x)  # (N, G)

    def eta(self, z: Tensor, condition: Tensor, offset: Tensor | None = None) -> Tensor:
        """Log fold changes to the average cell, (N, G)."""
        change = self.decode(self.features(z, condition))
        return change if offset is None else offset + change
