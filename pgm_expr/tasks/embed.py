"""Latent states of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

    from ..runs.fitted import Fitted


def embed(run: Fitted, data: AnnData | str | Path) -> np.ndarray:
    """Posterior means of the latent state of each cell.

    Labels in the data are not used. Genes may stand in any order; missing ones count as zeros,
    with a warning.

    Parameters
    ----------
    data
        Raw counts of the layer that the fit read: an AnnData, a file, or a data set's name. An
        AnnData receives the result as `obsm["X_pgm_<story>"]`, and each latent of a story of
        several as `obsm["X_pgm_<story>_<site>"]`.

    Returns
    -------
    Posterior means E[z | x], (N, D), all latents side by side but nuisance ones.

    Raises
    ------
    ValueError
        For unseen batches or categories, too few known genes, cells without any modelled count,
        and a story without a latent state of cells.

    Examples
    --------
    >>> run.embed(adata).shape
    (120, 2)
    >>> "X_pgm_vae" in adata.obsm
    True
    """
    run.require_states("embed")
    use = run.use(run.unlabelled(run.query(data)))
    latent = use.loc.cpu().numpy()
    if hasattr(data, "obsm"):
        data.obsm[run.key] = latent
        several = use.locs.items() if len(use.locs) > 1 else ()
        data.obsm.update({f"{run.key}_{site}": z.cpu().numpy() for site, z in several})
    return latent
