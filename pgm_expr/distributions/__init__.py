"""Distributions of counts, as Pyro distributions; most are given by `log_mean`, in logarithms."""

from .detection import Detection
from .dirichlet_multinomial import DirichletMultinomial
from .flow import Flow
from .negative_binomial import NegativeBinomial
from .poisson import Poisson
from .rounded_gaussian import RoundedGaussian
from .zero_inflated import ZeroInflatedNegativeBinomial

__all__ = [
    "Detection",
    "DirichletMultinomial",
    "Flow",
    "NegativeBinomial",
    "Poisson",
    "RoundedGaussian",
    "ZeroInflatedNegativeBinomial",
]
