"""Generative stories: one Pyro model a file, to be read beside the guide of the same name.

Models and guides are Pyro modules, so that a pair also trains in plain Pyro, whose losses are sums
over cells. Pyro keeps parameters by name: clear its store before training another pair.

>>> import pyro
>>> import torch
>>> from pyro.infer import SVI, Trace_ELBO
>>> from pgm_expr.guides import VAEGuide
>>> pyro.clear_param_store()
>>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
>>> svi = SVI(*pair, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
>>> x = torch.ones(8, 5)
>>> losses = [svi.step(library=x.sum(-1, keepdim=True), x=x) for _ in range(50)]
>>> sum(losses[-10:]) < sum(losses[:10])
True
>>> pyro.clear_param_store()
"""

from .bayesian_vae import BayesianVAE
from .classify import Classify
from .conditional_prior import ConditionalPrior
from .cvae import CVAE
from .fold_change import FoldChange
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
    "FoldChange",
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
