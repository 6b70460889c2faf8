"""New cells drawn from the story itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..runs.simulated_covariates import as_cells, draw_covariates
from .conditions import check_drawn
from .support import with_support

if TYPE_CHECKING:
    from anndata import AnnData

    from ..runs.fitted import Fitted


def sample(
    run: Fitted,
    n: int,
    *,
    condition: Mapping[str, object] | None = None,
    library: np.ndarray | None = None,
    seed: int = 0,
) -> AnnData:
    """Draw new cells from the prior predictive distribution: latent states from p(z).

    Parameters
    ----------
    n
        Number of cells.
    condition
        Columns of obs, each set to one level, in any combination of levels that the fit has
        seen: `{"stim": "yes"}`. Other covariates, and the libraries, are those of training cells;
        libraries of training cells of that condition where there are any.
    library
        Expected total counts of each cell, (n,).
    seed
        Of the draws.

    Returns
    -------
    AnnData of integer counts in X, (n, G), with `obs["library"]` and the condition.
    `uns["pgm_<story>"]` holds story, n, seed and `support`, the number of training cells of the
    condition, with a warning where they are fewer than 50.

    Raises
    ------
    ValueError
        For columns and levels unknown to the fit, and for a column that the drawn cells do not
        depend on.

    Examples
    --------
    >>> drawn = run.sample(5)
    >>> drawn.shape, drawn.X.dtype.kind
    ((5, 12), 'i')
    """
    check_drawn(run, condition or {})
    rng = np.random.default_rng(seed)
    totals, covariates = draw_covariates(run.notes, n, condition or {}, rng)
    totals = totals if library is None else np.asarray(library)
    drawn = as_cells(run.notes, run.draw(totals, covariates, seed), totals, condition or {})
    return with_support(run, drawn, condition or {}, seed)
