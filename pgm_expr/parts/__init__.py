"""The catalogue: modules whose call returns a distribution, one for each edge of a story."""

from .likelihoods import NegativeBinomial, PoissonCounts, ZeroInflatedNB
from .posteriors import DiagonalNormal
from .priors import StandardNormal

__all__ = [
    "DiagonalNormal",
    "NegativeBinomial",
    "PoissonCounts",
    "StandardNormal",
    "ZeroInflatedNB",
]
