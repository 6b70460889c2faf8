"""What fitted stories are used for: one file per user verb, `verb(run, data, ...)`."""

from ..runs.generators import GENERATORS
from ..runs.states import States
from .arviz import loo_pit, to_arviz
from .conformal import Mondrian, calibrate
from .counterfactual import counterfactual
from .differential_expression import differential_expression
from .embed import embed
from .generate import generate, learn
from .hybrid import CountHybrid, Hybrid, fit_counts, fit_values
from .learn_prior import learn_prior
from .normalized_expression import express, normalized_expression
from .predict_labels import predict_labels
from .predict_target import predict, predict_target
from .prediction import Prediction
from .predictive_summaries import (
    cells_needed,
    interpolate,
    modes,
    percentile_of,
    quantile,
    tail_probability,
)
from .predictors import CrossFitted, cross_fit
from .sample import sample
from .sleep import sleep
from .state_fold_change import state_fold_change

__all__ = [
    "GENERATORS",
    "CountHybrid",
    "CrossFitted",
    "Hybrid",
    "Mondrian",
    "Prediction",
    "States",
    "calibrate",
    "cells_needed",
    "counterfactual",
    "cross_fit",
    "differential_expression",
    "embed",
    "express",
    "fit_counts",
    "fit_values",
    "generate",
    "interpolate",
    "learn",
    "learn_prior",
    "loo_pit",
    "modes",
    "normalized_expression",
    "percentile_of",
    "predict",
    "predict_labels",
    "predict_target",
    "quantile",
    "sample",
    "sleep",
    "state_fold_change",
    "tail_probability",
    "to_arviz",
]
