"""What a run says of cells beyond their state: probabilities of labels, and a number."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .. import evaluation, zoo
from ..data import Cells

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from .run import Run

DRAWS = 25


def predict_labels(run: Run, data: AnnData | str | Path, draws: int) -> pd.DataFrame:
    """See `Run.predict_labels`."""
    import pandas as pd

    run.reread(data)
    known, labels = run.table.cells, run.table.encoding.labels
    if not labels:
        raise ValueError("the run knows no labels to predict. Fit with labels_key.")
    development = run.table.split.development
    classifier = evaluation.fit_classifier(
        _states(run, known, development, draws),
        known.columns["label"][development],
        classes=len(labels),
        noise=run.notes["options"].get("noise", zoo.defaults(run.story).get("noise", 0.0)),
    )
    cells = run.query(data)
    states = _states(run, cells, np.arange(len(cells)), draws)
    table = pd.DataFrame(classifier.probabilities(states), cells.names, labels)
    if hasattr(data, "obs"):
        data.obs[f"{run.prefix}_label"] = pd.Categorical(table.idxmax(axis=1), labels)
        data.obs[f"{run.prefix}_probability"] = table.max(axis=1).to_numpy()
    return table


def predict_target(run: Run, data: AnnData | str | Path, draws: int) -> pd.DataFrame:
    """See `Run.predict_target`."""
    import pandas as pd

    if not knows_target(run):
        raise ValueError("the run has no target to predict. Fit regress with a target_key.")
    head, cells, (mean, sd) = run.model.head, run.query(data), run.encoding.target
    states = _states(run, cells, np.arange(len(cells)), draws)
    with torch.no_grad():
        told = head(torch.as_tensor(states, device=run.device))
        loc, variance = (moment[..., 0].cpu().numpy() for moment in (told.mean, told.variance))
    spread = np.sqrt(loc.var(0) + variance.mean(0))
    table = pd.DataFrame({"mean": mean + sd * loc.mean(0), "sd": sd * spread}, cells.names)
    if hasattr(data, "obs"):
        for name in table:
            data.obs[f"{run.prefix}_target_{name}"] = table[name].to_numpy()
    return table


def predict(run: Run, data: AnnData, draws: int = DRAWS) -> pd.DataFrame:
    """All that the run can say of the cells: p(label | x), then mean and sd of the target.

    obs gets it too. ValueError where the run knows neither labels nor a target.
    """
    import pandas as pd

    tables = [predict_labels(run, data, draws)] if run.encoding.labels else []
    tables += [predict_target(run, data, draws)] if knows_target(run) else []
    if not tables:
        raise ValueError(
            "the run knows nothing to predict. Fit with labels_key, or regress with target_key."
        )
    return pd.concat(tables, axis=1)


def knows_target(run: Run) -> bool:
    """Whether the story has a head for a number, and the data had one."""
    about = inspect.signature(run.model.forward).parameters
    return "target" in about and hasattr(run.model, "head") and run.encoding.target is not None


def _states(run: Run, cells: Cells, index: np.ndarray, draws: int) -> np.ndarray:
    """Draws of the states of some cells, (S, N, D)."""
    batches = run.unlabelled(cells, index)
    return evaluation.draw_states(run.model, run.guide, batches, draws).cpu().numpy()
