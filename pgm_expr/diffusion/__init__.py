"""Diffusion: noise, a network that takes it off, samplers, guidance; plain torch."""

from .denoise import Denoiser, clean, epsilon, karras, karras_weight, score_weight, velocity
from .guidance import guided, spread_by_weight
from .latent import LatentDiffusion
from .noise import EDM, VE, Noise, VPCosine, VPLinear
from .sample import (
    ddim,
    dpm_solver_pp_2m,
    euler_maruyama,
    heun,
    log_prob,
    probability_flow,
)

__all__ = [
    "EDM",
    "VE",
    "Denoiser",
    "LatentDiffusion",
    "Noise",
    "VPCosine",
    "VPLinear",
    "clean",
    "ddim",
    "dpm_solver_pp_2m",
    "epsilon",
    "euler_maruyama",
    "guided",
    "heun",
    "karras",
    "karras_weight",
    "log_prob",
    "probability_flow",
    "score_weight",
    "spread_by_weight",
    "velocity",
]
