"""Plain torch networks that stories, guides and generators are made of, and how the last learn."""

from .condition import check_condition
from .film import FiLMNetwork, TimeEmbedding
from .invertible import affine_map, near_identity, spline_map
from .layers import Linears, MLPs, SkipMLP, concat, features, mlp
from .learn import learn, learn_standardised

__all__ = [
    "FiLMNetwork",
    "Linears",
    "MLPs",
    "SkipMLP",
    "TimeEmbedding",
    "affine_map",
    "check_condition",
    "concat",
    "features",
    "learn",
    "learn_standardised",
    "mlp",
    "near_identity",
    "spline_map",
]
