"""The genes that a run models, and query data in the same genes and order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from pgm_expr.data.counts import gene_names, refuse_empty, take_counts
from pgm_expr.data.matrix import canonical
from pgm_expr.data.messages import listing, near, one_line

if TYPE_CHECKING:
    from anndata import AnnData


def detected(counts: sp.csr_array) -> np.ndarray:
    """Genes with a count in at least one cell.

    Parameters
    ----------
    counts
        Counts, (N, G).

    Returns
    -------
    A mask of genes, (G,) bool.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from pgm_expr.data import detected
    >>> detected(sp.csr_array([[0, 3, 0], [1, 0, 0]])).tolist()
    [True, True, False]
    """
    return _cells_with(counts) > 0


def _cells_with(counts: sp.csr_array) -> np.ndarray:
    """(G,) number of cells with a count of each gene."""
    return np.bincount(counts.indices[counts.data != 0], minlength=counts.shape[1])


def choose_genes(
    counts: sp.csr_array,
    train: np.ndarray,
    *,
    min_cells: int = 0,
    n_top_genes: int | None = None,
    flavor: str = "seurat_v3",
) -> np.ndarray:
    """Choose the genes to model, on some cells alone.

    Genes without any count in all cells are left out, with a UserWarning that counts them, then
    those in too few training cells, then those that vary less.

    Parameters
    ----------
    counts
        Counts or log values of all cells, (N, G).
    train
        Positions of the cells on which genes are chosen.
    min_cells
        Keep genes with a count in at least so many of them.
    n_top_genes
        Keep so many of the most variable genes; None keeps all.
    flavor
        scanpy's ranking: "seurat_v3" for raw counts, "seurat" for log values.

    Returns
    -------
    Sorted columns of the genes that remain.

    Raises
    ------
    ValueError
        Where no gene remains, for `n_top_genes` below 1, and where genes cannot be ranked.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from pgm_expr.data import choose_genes
    >>> counts = sp.csr_array([[1, 3, 0], [1, 0, 0], [2, 0, 1]])
    >>> choose_genes(counts, np.array([0, 1]), min_cells=2).tolist()
    [0]
    """
    if n_top_genes is not None and n_top_genes < 1:
        raise ValueError(f"n_top_genes must be at least 1: got {n_top_genes}. Pass None for all.")
    seen = detected(counts)
    if not seen.all():
        dropped = int((~seen).sum())
        warnings.warn(f"{dropped} genes without any count are left out.", stacklevel=2)
    training = counts[train]
    kept = np.flatnonzero(seen & (_cells_with(training) >= min_cells))
    if not len(kept):
        raise ValueError(
            f"no gene is left: of {len(seen)} genes none has a count in min_cells={min_cells} "
            f"of the {len(train)} training cells. Lower min_cells."
        )
    if n_top_genes is None or n_top_genes >= len(kept):
        return kept
    return kept[_most_variable(training[:, kept], n_top_genes, flavor)]


def _most_variable(counts: sp.csr_array, number: int, flavor: str) -> np.ndarray:
    import scanpy as sc
    from anndata import AnnData

    adata = AnnData(sp.csr_matrix(counts))  # scanpy 1.11 checks matrices, but knows no arrays
    threads = torch.get_num_threads()  # numba sets OpenMP's number for the whole process
    try:
        table = sc.pp.highly_variable_genes(
            adata, flavor=flavor, n_top_genes=number, inplace=False
        )
    except ValueError as error:  # the loess fit, on too few genes or cells
        raise ValueError(
            f"n_top_genes={number} cannot be ranked among {counts.shape[1]} genes in "
            f"{counts.shape[0]} cells ({one_line(error)}). Raise min_cells or pass None."
        ) from error
    finally:
        torch.set_num_threads(threads)
    if flavor == "seurat":  # its cut-off lets ties in
        return np.sort(table["dispersions_norm"].fillna(-np.inf).to_numpy().argsort()[-number:])
    return np.flatnonzero(table["highly_variable"])


def align(
    adata: AnnData,
    genes: Sequence[str],
    layer: str | None = None,
    take: Callable[[AnnData, str | None], sp.csr_array] = take_counts,
) -> sp.csr_array:
    """Bring query data into the genes of a run, in their order.

    Parameters
    ----------
    adata
        Query data. Genes may stand in any order; missing ones become zeros, with a UserWarning
        that counts them.
    genes
        Names of the G modelled genes.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.
    take
        Reads the values: `take_counts`, or `take_log_values` for stories of continuous
        expression.

    Returns
    -------
    Values (N, G) as CSR float32.

    Raises
    ------
    ValueError
        Where more than half of the genes are missing, for cells without a count in them, and as
        `take` does.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from pgm_expr.data import align
    >>> query = AnnData(np.array([[5.0, 1.0]]), var=pd.DataFrame(index=["NKG7", "CD3E"]))
    >>> align(query, ["CD3E", "NKG7"]).toarray().tolist()
    [[1.0, 5.0]]
    """
    counts = take(adata, layer)
    names = gene_names(adata, layer)
    column = {name: position for position, name in enumerate(names)}
    source = np.array([column.get(gene, -1) for gene in genes])
    target = np.flatnonzero(source >= 0)
    missing = [gene for gene, position in zip(genes, source, strict=True) if position < 0]
    if 2 * len(missing) > len(genes):
        raise ValueError(_mismatch(adata, genes, names, missing))
    if missing:
        warnings.warn(
            f"{len(missing)} of the {len(genes)} modelled genes are not in the data and count "
            f"as zero: {listing(missing, 5)}.",
            stacklevel=2,
        )
    part = counts[:, source[target]]
    shape = (adata.n_obs, len(genes))
    aligned = canonical(sp.csr_array((part.data, target[part.indices], part.indptr), shape))
    do = "Drop these cells: a model of these genes has nothing to say about them."
    refuse_empty(aligned, adata.obs_names, "the modelled genes", do)
    return aligned


def _mismatch(
    adata: AnnData, genes: Sequence[str], names: np.ndarray, missing: Sequence[str]
) -> str:
    found = len(genes) - len(missing)
    return (
        f"the data must hold the modelled genes: found {found} of {len(genes)}, not "
        f"{missing[0]!r} for one. {_remedy(adata, genes, names, missing[0])}"
    )


def _remedy(adata: AnnData, genes: Sequence[str], names: np.ndarray, first: str) -> str:
    """The way of naming genes under which most of them would be found, if there is one."""
    wanted, half = set(genes), len(genes) / 2
    for key in adata.var:
        if len(wanted.intersection(adata.var[key].astype(str))) >= half:
            return f"Set adata.var_names = adata.var[{key!r}] (these agree)."
    if len({gene.upper() for gene in wanted}.intersection(np.char.upper(names))) >= half:
        return "They agree but for upper and lower case: rename adata.var_names."
    plain = {gene.split(".")[0] for gene in wanted}
    if len(plain.intersection(name.split(".")[0] for name in names)) >= half:
        return "They agree but for the version after the dot: rename adata.var_names."
    ensembl = [name.startswith("ENS") for name in (first, str(names[0]))]
    if ensembl[0] != ensembl[1]:
        kinds = "Ensembl ids", "gene symbols"
        return f"The run uses {kinds[ensembl[1]]}, the data {kinds[ensembl[0]]}: rename them."
    return f"The data's first are {listing(names[:3])}.{near(first, names)} Rename them."
