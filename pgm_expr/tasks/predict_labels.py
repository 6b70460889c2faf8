"""Probabilities of labels, from the latent states of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import zoo
from ..evaluation import fit_classifier
from ..predict import draw_states

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..data import Cells
    from ..runs.fitted import Fitted

DRAWS = 25  # of z ~ q(z | x)


def predict_labels(run: Fitted, data: AnnData | str | Path, *, draws: int = DRAWS) -> pd.DataFrame:
    """p(label | x) of each cell, averaged over draws of its state; for any run with labels.

    A logistic classifier is fitted to the states of the labelled cells outside the test set; its
    penalty and temperature are cross-validated among them (`evaluation.classifier`). A story's
    `noise`, the share of wrong labels, is allowed for.

    Parameters
    ----------
    data
        Cells, as for `embed`. An AnnData receives `obs["pgm_<story>_label"]` and
        `obs["pgm_<story>_probability"]`.
    draws
        Draws of z ~ q(z | x) to average over.

    Returns
    -------
    DataFrame of probabilities, (N, K), indexed by cell, one column per label; rows sum to 1.

    Raises
    ------
    ValueError
        Where the fit had no labels.

    Examples
    --------
    >>> table = run.predict_labels(adata)
    >>> list(table.columns), bool((abs(table.sum(axis=1) - 1) < 1e-6).all())
    (['a', 'b'], True)
    """
    import pandas as pd

    table = run.training_table(data)
    labels = table.encoding.labels
    if not labels:
        raise ValueError("the run has no labels to predict. Fit with labels_key.")
    development = table.split.development
    classifier = fit_classifier(
        draw_latents(run, table.cells, development, draws),
        table.cells.columns["label"][development],
        classes=len(labels),
        noise=run.notes["options"].get("noise", zoo.defaults(run.story).get("noise", 0.0)),
    )
    cells = run.query(data)
    states = draw_latents(run, cells, np.arange(len(cells)), draws)
    found = pd.DataFrame(classifier.probabilities(states), cells.names, labels)
    if hasattr(data, "obs"):
        data.obs[f"{run.prefix}_label"] = pd.Categorical(found.idxmax(axis=1), labels)
        data.obs[f"{run.prefix}_probability"] = found.max(axis=1).to_numpy()
    return found


def draw_latents(run: Fitted, cells: Cells, index: np.ndarray, draws: int) -> np.ndarray:
    """Draws of the states of some cells, (S, N, D)."""
    batches = run.unlabelled(cells, index)
    return draw_states(run.model, run.guide, batches, draws).cpu().numpy()
