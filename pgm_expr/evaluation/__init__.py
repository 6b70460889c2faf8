"""Judging a fitted story: takes (model, guide, batches) or arrays, never a story by name."""

from .baselines import Baseline, fit_baseline
from .compare import difference, rank, score, spread, uncertainty, zero_inflation
from .counts import compare_counts, gene_statistics
from .disentanglement import cca, dci, mig
from .expression import draw_posterior, draw_prior, normalized_expression
from .heldout import elbo, iwae, standard_error
from .judge import judge
from .probes import pca, probe
from .refine import Refined, amortisation_gap

__all__ = [
    "Baseline",
    "Refined",
    "amortisation_gap",
    "cca",
    "compare_counts",
    "dci",
    "difference",
    "draw_posterior",
    "draw_prior",
    "elbo",
    "fit_baseline",
    "gene_statistics",
    "iwae",
    "judge",
    "mig",
    "normalized_expression",
    "pca",
    "probe",
    "rank",
    "score",
    "spread",
    "standard_error",
    "uncertainty",
    "zero_inflation",
]
