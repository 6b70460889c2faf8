"""Measures of a fitted story, as functions of (model, guide, batches) or of arrays."""

from .bounds.baselines import Baseline, fit_baseline
from .bounds.differences import Difference, difference
from .bounds.held_out import elbo, iwae, standard_error
from .bounds.ranking import rank, spread, zero_inflation
from .bounds.scores import score
from .counts.statistics import compare_counts, gene_statistics
from .counts.two_sample import TwoSample, markers_on, two_sample
from .counts.typicality import Typicality, typicality
from .effects.differential import Kept, kept
from .guide.refine import Refined, amortisation_gap
from .guide.sbc import Calibration, sbc
from .judge import judge
from .latent.classifier import (
    Classifier,
    calibration_error,
    excess_calibration_error,
    fit_classifier,
)
from .latent.clusters import Clusters, agreement, find_clusters
from .latent.disentanglement import cca, dci, mig
from .latent.leakage import Leakage, leakage
from .latent.mixing import Mixed, mixing
from .latent.novelty import mahalanobis, neighbour_distance
from .latent.probes import pca, probe
from .latent.structure import Explained, Readability, explained, readability
from .standardise import Observed, observe
from .support import Support

__all__ = [
    "Baseline",
    "Calibration",
    "Classifier",
    "Clusters",
    "Difference",
    "Explained",
    "Kept",
    "Leakage",
    "Mixed",
    "Observed",
    "Readability",
    "Refined",
    "Support",
    "TwoSample",
    "Typicality",
    "agreement",
    "amortisation_gap",
    "calibration_error",
    "cca",
    "compare_counts",
    "dci",
    "difference",
    "elbo",
    "excess_calibration_error",
    "explained",
    "find_clusters",
    "fit_baseline",
    "fit_classifier",
    "gene_statistics",
    "iwae",
    "judge",
    "kept",
    "leakage",
    "mahalanobis",
    "markers_on",
    "mig",
    "mixing",
    "neighbour_distance",
    "observe",
    "pca",
    "probe",
    "rank",
    "readability",
    "sbc",
    "score",
    "spread",
    "standard_error",
    "two_sample",
    "typicality",
    "zero_inflation",
]
