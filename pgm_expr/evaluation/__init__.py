"""Judging a fitted story: takes (model, guide, batches) or arrays, never a story by name."""

from .baselines import Baseline, fit_baseline
from .counts import compare_counts, gene_statistics
from .expression import draw_posterior, draw_prior, normalized_expression
from .heldout import elbo, iwae, standard_error
from .judge import judge
from .probes import pca, probe

__all__ = [
    "Baseline",
    "compare_counts",
    "draw_posterior",
    "draw_prior",
    "elbo",
    "fit_baseline",
    "gene_statistics",
    "iwae",
    "judge",
    "normalized_expression",
    "pca",
    "probe",
    "standard_error",
]
