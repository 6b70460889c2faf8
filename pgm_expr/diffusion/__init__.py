"""Diffusion: noise schedules, networks that remove noise, samplers, guidance; plain torch."""

from .denoise import Denoiser, clean, epsilon, karras, karras_weight, score_weight, velocity
from .discrete import DiscreteDiffusion
from .guidance import guided, spread_by_weight
from .kernels import Absorbing, Ordinal
from .latent import LatentDiffusion
from .noise import EDM, VE, Noise, VPCosine, VPLinear
from .sample import ddim, dpm_solver_pp_2m, euler_maruyama, heun, log_prob, probability_flow
from .values import ValueDiffusion, drawn, normalised, rounded

__all__ = [
    "EDM",
    "VE",
    "Absorbing",
    "Denoiser",
    "DiscreteDiffusion",
    "LatentDiffusion",
    "Noise",
    "Ordinal",
    "VPCosine",
    "VPLinear",
    "ValueDiffusion",
    "clean",
    "ddim",
    "dpm_solver_pp_2m",
    "drawn",
    "epsilon",
    "euler_maruyama",
    "guided",
    "heun",
    "karras",
    "karras_weight",
    "log_prob",
    "normalised",
    "probability_flow",
    "rounded",
    "score_weight",
    "spread_by_weight",
    "velocity",
]
