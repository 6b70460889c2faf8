"""Plain torch networks that stories, guides and generators are made of, and how the last learn."""

from .film import FiLMNetwork, TimeEmbedding
from .layers import Linears, MLPs, SkipMLP, concat, features, mlp
from .learn import learn

__all__ = [
    "FiLMNetwork",
    "Linears",
    "MLPs",
    "SkipMLP",
    "TimeEmbedding",
    "concat",
    "features",
    "learn",
    "mlp",
]
