"""Count distributions in logarithms, as Pyro distributions: by `log_mean` and `log_dispersion`."""

from .negative_binomial import NegativeBinomial
from .poisson import Poisson
from .zero_inflated import ZeroInflatedNegativeBinomial

__all__ = ["NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]
