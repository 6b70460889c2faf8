"""A continuous target of each cell, from the head of a story such as `regress`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data import Target
from .predict_labels import DRAWS, draw_latents, predict_labels

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..runs.fitted import Fitted


def predict_target(run: Fitted, data: AnnData | str | Path, *, draws: int = DRAWS) -> pd.DataFrame:
    """Mean and standard deviation of the target of each cell, in the units of its column.

    The deviation holds both the uncertainty of the state and the residual of the head.

    Parameters
    ----------
    data
        Cells, as for `embed`. An AnnData receives `obs["pgm_<story>_target_mean"]` and
        `obs["pgm_<story>_target_sd"]`.
    draws
        Draws of z ~ q(z | x).

    Returns
    -------
    DataFrame with the columns `mean` and `sd`, indexed by cell.

    Raises
    ------
    ValueError
        Where the story has no head for a target, or the fit had none.

    Examples
    --------
    >>> ages = pgm_expr.fit(adata, "regress", target_key="age", epochs=1, progress=False)
    >>> list(ages.predict_target(adata).columns)
    ['mean', 'sd']
    """
    import pandas as pd

    target = run.encoding.get(Target)
    if target is None or not has_target(run):
        raise ValueError("the run has no target to predict. Fit regress with a target_key.")
    cells, head = run.query(data), run.model.get_submodule("head")
    states = draw_latents(run, cells, np.arange(len(cells)), draws)
    with torch.no_grad():
        predicted = head(torch.as_tensor(states, device=run.device))
        moments = predicted.mean, predicted.variance
        loc, variance = (moment[..., 0].cpu().numpy() for moment in moments)
    spread = np.sqrt(loc.var(0) + variance.mean(0))
    found = pd.DataFrame(
        {"mean": target.mean + target.sd * loc.mean(0), "sd": target.sd * spread}, cells.names
    )
    if hasattr(data, "obs"):
        for name in found:
            data.obs[f"{run.prefix}_target_{name}"] = found[name].to_numpy()
    return found


def predict(run: Fitted, data: AnnData | str | Path, *, draws: int = DRAWS) -> pd.DataFrame:
    """All predictions of a run side by side: p(label | x), then mean and sd of the target.

    Parameters
    ----------
    data, draws
        As for `predict_labels` and `predict_target`.

    Returns
    -------
    DataFrame indexed by cell.

    Raises
    ------
    ValueError
        Where the fit had neither labels nor a target.

    Examples
    --------
    >>> list(run.predict(adata).columns)
    ['a', 'b']
    """
    import pandas as pd

    tables = [predict_labels(run, data, draws=draws)] if run.encoding.labels else []
    tables += [predict_target(run, data, draws=draws)] if has_target(run) else []
    if not tables:
        raise ValueError(
            "the run has nothing to predict. Fit with labels_key, or regress with target_key."
        )
    return pd.concat(tables, axis=1)


def has_target(run: Fitted) -> bool:
    """Whether the story has a head for a number, and the data had one."""
    arguments = inspect.signature(run.model.forward).parameters
    return (
        "target" in arguments
        and hasattr(run.model, "head")
        and run.encoding.get(Target) is not None
    )
