"""Expected expression of cells, as they are or under another condition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .conditions import check_expressed

if TYPE_CHECKING:
    from anndata import AnnData

    from ..runs.fitted import Fitted


def normalized_expression(
    run: Fitted,
    data: AnnData | str | Path,
    *,
    condition: Mapping[str, object] | None = None,
    library: float = 1.0,
    draws: int = 25,
) -> np.ndarray:
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

    Returns
    -------
    Expected counts, (N, G).

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
    cells = run.query(data)
    check_expressed(run, cells, condition or {})
    at = run.encoding.set_to(cells.columns, condition or {}, len(cells))
    return run.expected(cells, np.arange(len(cells)), at, library=library, draws=draws)


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
    found.uns[run.prefix] = levels | {"library": library}
    return found
