"""Guides: for each story of `models`, its variational posterior, on a page of the same name."""

from .bayesian_vae import BayesianVAEGuide
from .classify import ClassifyGuide
from .conditional_prior import ConditionalPriorGuide
from .cvae import CVAEGuide
from .hierarchical import HierarchicalGuide
from .label import LabelGuide
from .ladder import LadderGuide
from .latent_library import LatentLibraryGuide
from .linear import LinearVAEGuide
from .mixture import MixtureOfVAEsGuide
from .offset import OffsetGuide
from .regress import RegressGuide
from .shift import ShiftGuide
from .vae import VAEGuide

__all__ = [
    "BayesianVAEGuide",
    "CVAEGuide",
    "ClassifyGuide",
    "ConditionalPriorGuide",
    "HierarchicalGuide",
    "LabelGuide",
    "LadderGuide",
    "LatentLibraryGuide",
    "LinearVAEGuide",
    "MixtureOfVAEsGuide",
    "OffsetGuide",
    "RegressGuide",
    "ShiftGuide",
    "VAEGuide",
]
