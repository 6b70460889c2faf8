"""Plain torch: networks of stories, guides and generators, and the training of generators."""

from .film import FiLMNetwork, TimeEmbedding
from .generator import StateGenerator, check_condition
from .invertible import affine_map, near_identity, spline_map
from .layers import Linears, MLPs, SkipMLP, concat, features, mlp
from .learn import learn

__all__ = [
    "FiLMNetwork",
    "Linears",
    "MLPs",
    "SkipMLP",
    "StateGenerator",
    "TimeEmbedding",
    "affine_map",
    "check_condition",
    "concat",
    "features",
    "learn",
    "mlp",
    "near_identity",
    "spline_map",
]
