"""Expression that a run expects of cells, as an AnnData in the genes of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run


def express(
    run: Run,
    data: AnnData,
    *,
    condition: Mapping[str, object] | None = None,
    library: float = 1e4,
) -> AnnData:
    """The cells in the genes of the run, what the run reads of them in X, and the layer
    `pgm_<story>` with what it expects of them at a common library.

    Genes of the run that the data lack are there too: zero in X, with a warning, and as the
    story expects them in the layer. ValueError as `Run.normalized_expression`, and for a library
    that is not above 0.
    """
    from anndata import AnnData

    if not (library > 0 and np.isfinite(library)):
        raise ValueError(f"library must be a number above 0: got {library}.")
    cells = run.query(data)
    found = AnnData(cells.counts, data.obs.copy(), obsm=dict(data.obsm))
    found.var_names = run.notes["genes"]
    found.layers[run.prefix] = run.normalized_expression(
        data, condition=condition, library=library
    )
    found.uns[run.prefix] = {name: str(level) for name, level in (condition or {}).items()} | {
        "library": library
    }
    return found
