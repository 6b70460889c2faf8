"""Expected expression of cells, as they are or under another condition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .. import predict
from ..data import load_dataset
from ..inference import seeded
from .conditions import check_expressed
from .counterfactual import groups_of, warn_of_support
from .prediction import Prediction
from .support import find_overlap, training_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from ..data import Cells
    from ..evaluation.support import Support
    from ..runs.fitted import Fitted


def normalized_expression(
    run: Fitted,
    data: AnnData | str | Path,
    *,
    condition: Mapping[str, object] | None = None,
    library: float = 1.0,
    draws: int = 25,
    groupby: str | None = None,
    return_draws: bool = False,
) -> np.ndarray | Prediction:
    """Expected counts of each cell at a common library: posterior means over draws of z.

    Parameters
    ----------
    data
        Cells, as for `embed`.
    condition
        Columns of obs, each set to one level for all cells, after their states were inferred
        under the levels that they have: `{"protocol": "Drop-seq"}` gives the expression of the
        same cells under another protocol (a counterfactual of the model).
    library
        The common total, in counts; 1 gives shares.
    draws
        Draws of z ~ q(z | x) to average over.
    groupby
        A column of obs: means over the cells of each of its levels instead of cells, in the order
        of their names. Only with `return_draws`.
    return_draws
        Whether to return a `Prediction` with the draws, (S, cells or groups, G). They are draws
        of the states given the weights: `sd` and intervals leave out the sampling of cells that
        the weights were learnt from. `counterfactual` includes it.

    Returns
    -------
    Expected counts, (N, G); a `Prediction` with `return_draws`.

    Raises
    ------
    ValueError
        For columns and levels unknown to the fit, and for a column without effect once the state
        of the cell is given.

    Examples
    --------
    >>> shares = run.normalized_expression(adata)
    >>> bool(abs(shares.sum(1) - 1).max() < 1e-5)
    True
    """
    data = load_dataset(data) if isinstance(data, (str, Path)) else data
    cells = run.query(data)
    check_expressed(run, cells, condition or {})
    at = run.encoding.set_to(cells.columns, condition or {}, len(cells))
    if not return_draws:
        _refuse_groups(groupby)
        return run.expected(cells, np.arange(len(cells)), at, library=library, draws=draws)
    groups = groups_of(data.obs, groupby) if groupby else None
    drawn = _draws(run, cells, at, library, draws)
    if groups:
        drawn = np.stack([drawn[:, members].mean(1) for members in groups.values()], 1)
    return Prediction(
        draws=drawn,
        rows=[*groups] if groups else [*cells.names],
        genes=run.notes["genes"],
        quantity=f"expected counts at library {library:g}",
        story=run.notes["story"],
        n=np.array([*map(len, groups.values())] if groups else [1] * len(cells)),
        condition=condition or {},
        support=_support(run, cells, condition, data) if condition else None,
        split=run.notes["cells"],
        seeds={"draws": predict.SEED},
    )


def _refuse_groups(groupby: str | None) -> None:
    if groupby is not None:
        raise ValueError(
            f"groupby={groupby!r} has no effect on means by cell. Pass return_draws=True."
        )


def _draws(
    run: Fitted, cells: Cells, at: Mapping[str, np.ndarray], library: float, draws: int
) -> np.ndarray:
    """Expected counts at each draw of the states, (S, N, G)."""
    changed = {key: torch.as_tensor(value, device=run.device) for key, value in at.items()}
    found = []
    with seeded(predict.SEED):
        for batch in run.unlabelled(cells):
            levels = {k: v[batch["index"]] for k, v in changed.items() if k in batch}
            common = torch.full_like(batch["library"], library)
            query = {**batch, **levels, "library": common}
            means = [predict.predict(run.model, run.guide, batch, query) for _ in range(draws)]
            found.append(torch.stack([each.mean for each in means]).cpu().numpy())
    return np.concatenate(found, 1)


def _support(
    run: Fitted, cells: Cells, condition: Mapping[str, object], data: AnnData
) -> Support | None:
    """Support of a condition, with a warning where it is not good; None without strata."""
    if run.story.unit != "cells" and "label" not in cells.columns:
        return None
    found = find_overlap(run, cells, condition, data.obs)
    support = found.support(condition, training_cells(run, condition))
    warn_of_support(support)
    return support


def express(
    run: Fitted,
    data: AnnData,
    *,
    condition: Mapping[str, object] | None = None,
    library: float = 1e4,
) -> AnnData:
    """The cells in the genes of the run, with their expected expression as a layer.

    Parameters
    ----------
    data, condition, library
        As for `normalized_expression`; `library` is above 0.

    Returns
    -------
    AnnData whose X holds the counts that the run reads, and whose layer `pgm_<story>` holds the
    expected counts at a common library. Genes that the data lack are zero in X, with a warning,
    and expected in the layer. `uns["pgm_<story>"]` names condition and library.

    Raises
    ------
    ValueError
        As `normalized_expression`, and for a library that is not above 0.

    Examples
    --------
    >>> run.express(adata, library=1e4).layers["pgm_vae"].shape
    (120, 12)
    """
    from anndata import AnnData

    if not (library > 0 and np.isfinite(library)):
        raise ValueError(f"library must be a number above 0: got {library}.")
    cells = run.query(data)
    found = AnnData(cells.counts, data.obs.copy(), obsm=dict(data.obsm))
    found.var_names = run.notes["genes"]
    found.layers[run.prefix] = normalized_expression(
        run, data, condition=condition, library=library
    )
    levels = {name: str(level) for name, level in (condition or {}).items()}
    notes = {"library": library, "story": run.notes["story"], "n": found.n_obs}
    support = _support(run, cells, condition, data) if condition else None
    found.uns[run.prefix] = notes | levels | ({"support": support.to_dict()} if support else {})
    return found
