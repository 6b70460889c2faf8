"""The catalogue: modules whose call returns a distribution, one for each edge of a story."""

from .conditioning import Covariates, Gated, NormalByEffects, NormalByLabel, OneHot
from .gene_sets import GeneSetDecoder, GeneSetEvidence
from .heads import ClassHead, ValueHead
from .hierarchy import Lift, product
from .initial_values import centres
from .labels import Confusion
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
    ConditionalMixture,
    FlowPrior,
    KindsOfNormals,
    MixtureOfNormals,
    StandardNormal,
    VampPrior,
    WideNormal,
)
from .values import Gaussian, GaussianMixture, LowRankGaussianMixture, RoundedGaussian

__all__ = [
    "ClassHead",
    "Composition",
    "ConditionalMixture",
    "Confusion",
    "Covariates",
    "Detection",
    "DiagonalNormal",
    "DirichletMultinomial",
    "FlowPosterior",
    "FlowPrior",
    "Gated",
    "Gaussian",
    "GaussianMixture",
    "GeneSetDecoder",
    "GeneSetEvidence",
    "KindsOfNormals",
    "Lift",
    "LowRankGaussianMixture",
    "LowRankNormal",
    "Metadata",
    "MixtureOfNormals",
    "NegativeBinomial",
    "NegativeBinomialByBatch",
    "NegativeBinomialByCell",
    "NegativeBinomialMixture",
    "NormalByEffects",
    "NormalByLabel",
    "OneHot",
    "PoissonCounts",
    "Rate",
    "RoundedGaussian",
    "StandardNormal",
    "ValueHead",
    "VampPrior",
    "WideNormal",
    "ZeroInflatedNB",
    "centres",
    "product",
]
