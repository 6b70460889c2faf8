"""The catalogue: modules whose call returns a distribution, one for each edge of a story."""

from .likelihoods import (
    Detection,
    DirichletMultinomial,
    NegativeBinomial,
    NegativeBinomialByBatch,
    NegativeBinomialByCell,
    NegativeBinomialMixture,
    PoissonCounts,
    ZeroInflatedNB,
)
from .links import Composition, Rate
from .metadata import Metadata
from .posteriors import DiagonalNormal, FlowPosterior, LowRankNormal
from .priors import (
    ConditionalNormal,
    FlowPrior,
    MixtureOfNormals,
    StandardNormal,
    VampPrior,
    WideNormal,
)
from .values import Gaussian, GaussianMixture, LowRankGaussianMixture, RoundedGaussian

__all__ = [
    "Composition",
    "ConditionalNormal",
    "Detection",
    "DiagonalNormal",
    "DirichletMultinomial",
    "FlowPosterior",
    "FlowPrior",
    "Gaussian",
    "GaussianMixture",
    "LowRankGaussianMixture",
    "LowRankNormal",
    "Metadata",
    "MixtureOfNormals",
    "NegativeBinomial",
    "NegativeBinomialByBatch",
    "NegativeBinomialByCell",
    "NegativeBinomialMixture",
    "PoissonCounts",
    "Rate",
    "RoundedGaussian",
    "StandardNormal",
    "VampPrior",
    "WideNormal",
    "ZeroInflatedNB",
]
