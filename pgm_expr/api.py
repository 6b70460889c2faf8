"""The public API: functions, and the class `Run`. Docstrings are at the functions themselves.

run = pgm_expr.fit(adata, story="vae", labels_key="cell_type", out="runs/mine")
run.embed(adata), run.evaluate(), run.sample(1000)
run = pgm_expr.load("runs/mine")
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from . import tasks
from .comparison.compare import compare
from .comparison.table import Comparison
from .criticism.criticize import CELLS, DRAWS, criticize
from .criticism.evaluate import evaluate
from .criticism.pages import criticism_page, html_report
from .criticism.record import pictures, record
from .criticism.sections import SECTIONS
from .data import ARGUMENTS, describe, load_dataset
from .data.write import check_out, write_h5ad
from .inference import PosteriorCollapse, write_atomically
from .runs.fit import fit as fit_story
from .runs.fitted import Fitted
from .runs.folder import RunFolder
from .runs.load import load as load_run
from .tasks.learn_prior import STEPS as PRIOR_STEPS
from .tasks.sleep import STEPS as SLEEP_STEPS
from .zoo import OBJECTIVES, PARTS, REFUSED, STORIES, Story, story
from .zoo import new as new_story

__all__ = [
    "ARGUMENTS",
    "CELLS",
    "DRAWS",
    "OBJECTIVES",
    "PARTS",
    "PRIOR_STEPS",
    "REFUSED",
    "SECTIONS",
    "SLEEP_STEPS",
    "STORIES",
    "Comparison",
    "PosteriorCollapse",
    "Run",
    "RunFolder",
    "Story",
    "check_out",
    "compare",
    "criticism_page",
    "describe",
    "fit",
    "html_report",
    "load",
    "load_dataset",
    "new_story",
    "record",
    "story",
    "write_atomically",
    "write_h5ad",
]
P = ParamSpec("P")


class Run(Fitted):
    """A fitted story with its methods: what `fit` and `load` return.

    State: `model`, `guide`, `history`, `notes`, `metrics`, `device`; `save(path)` writes it.
    """

    # states and expression of cells
    embed = tasks.embed
    normalized_expression = tasks.normalized_expression
    express = tasks.express
    counterfactual = tasks.counterfactual
    differential_expression = tasks.differential_expression
    state_fold_change = tasks.state_fold_change

    # predictions
    predict_labels = tasks.predict_labels
    predict_target = tasks.predict_target
    predict = tasks.predict

    # new cells
    sample = tasks.sample
    generate = tasks.generate
    learn = tasks.learn

    # recalibrate the guide, replace the prior
    sleep = tasks.sleep
    learn_prior = tasks.learn_prior

    # evaluation
    evaluate = evaluate
    criticize = criticize
    pictures = pictures
    to_arviz = tasks.to_arviz
    loo_pit = tasks.loo_pit


def _with_verbs(make: Callable[P, Fitted]) -> Callable[P, Run]:
    """Wrap a function that returns a `Fitted` to return a `Run`."""

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Run:
        return Run(**vars(make(*args, **kwargs)))

    return made


fit = _with_verbs(fit_story)
load = _with_verbs(load_run)
