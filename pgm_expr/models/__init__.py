"""Generative stories: one Pyro model a file, to be read beside the guide of the same name."""

from .bayesian_vae import BayesianVAE
from .classify import Classify
from .conditional_prior import ConditionalPrior
from .cvae import CVAE
from .hierarchical import Hierarchical
from .label import Label
from .ladder import Ladder
from .latent_library import LatentLibrary
from .linear import LinearVAE
from .mixture import MixtureOfVAEs
from .offset import Offset
from .regress import Regress
from .shift import Shift
from .vae import VAE

__all__ = [
    "CVAE",
    "VAE",
    "BayesianVAE",
    "Classify",
    "ConditionalPrior",
    "Hierarchical",
    "Label",
    "Ladder",
    "LatentLibrary",
    "LinearVAE",
    "MixtureOfVAEs",
    "Offset",
    "Regress",
    "Shift",
]
