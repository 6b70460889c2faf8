"""Judging a fitted story: takes (model, guide, batches) or arrays, never a story by name."""

from .baselines import Baseline, fit_baseline
from .classifier import (
    Classifier,
    calibration_error,
    excess_calibration_error,
    fit_classifier,
)
from .clusters import Clusters, agreement, find_clusters
from .compare import difference, rank, score, spread, uncertainty, zero_inflation
from .counts import compare_counts, gene_statistics
from .disentanglement import cca, dci, mig
from .expression import (
    draw_posterior,
    draw_prior,
    draw_states,
    normalized_expression,
    predict,
)
from .heldout import elbo, iwae, standard_error, withheld
from .judge import judge
from .leakage import Leakage, leakage
from .probes import pca, probe
from .refine import Refined, amortisation_gap
from .structure import Explained, Readability, explained, readability

__all__ = [
    "Baseline",
    "Clusters",
    "Classifier",
    "Explained",
    "Leakage",
    "Readability",
    "Refined",
    "agreement",
    "amortisation_gap",
    "calibration_error",
    "cca",
    "compare_counts",
    "dci",
    "difference",
    "draw_posterior",
    "draw_prior",
    "draw_states",
    "elbo",
    "excess_calibration_error",
    "explained",
    "find_clusters",
    "fit_baseline",
    "fit_classifier",
    "gene_statistics",
    "iwae",
    "judge",
    "leakage",
    "mig",
    "normalized_expression",
    "pca",
    "predict",
    "probe",
    "rank",
    "readability",
    "score",
    "spread",
    "standard_error",
    "uncertainty",
    "withheld",
    "zero_inflation",
]
