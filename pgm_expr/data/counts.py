"""Raw counts or log values out of an AnnData, checked here and nowhere after.

Errors name cell, gene and value, and say what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from pgm_expr.data.matrix import (
    gene_names,
    layer_names,
    matrix_of,
    place,
    summarise,
    to_csr,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = [
    "gene_names",
    "kind_of",
    "refuse_empty",
    "take_counts",
    "take_log_values",
    "take_values",
]

FLOAT32_EXACT = 2**24  # from here on float32 skips integers


def take_counts(adata: AnnData, layer: str | None = None) -> sp.csr_array:
    """Take raw counts out of an AnnData.

    Parameters
    ----------
    adata
        Cells x genes; dense, sparse or backed by a file.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.

    Returns
    -------
    Counts (N, G) as CSR float32, a copy; its columns are `gene_names(adata, layer)`.

    Raises
    ------
    ValueError
        For an unknown layer, repeated names of cells or genes, an empty table, values that are
        not counts, counts that float32 does not hold exactly, and cells without any count.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from pgm_expr.data import take_counts
    >>> take_counts(AnnData(np.array([[0.0, 3.0], [1.0, 0.0]]))).toarray().tolist()
    [[0.0, 3.0], [1.0, 0.0]]
    """
    csr = _named(adata, layer)
    data = csr.data
    _refuse(adata, layer, csr, ~np.isfinite(data), _REPAIR)
    _refuse(adata, layer, csr, data < 0, "Pass the unscaled, uncentred counts.")
    _refuse(adata, layer, csr, np.rint(data) != data, _UNNORMALISED)
    _refuse(adata, layer, csr, data >= FLOAT32_EXACT, _TOO_LARGE)
    stored = "adata" if layer is None else f"adata.{_attribute(adata, layer)}"
    refuse_empty(csr, adata.obs_names, place(layer), _drop_empty(stored))
    return csr.astype(np.float32, copy=True)


def take_values(adata: AnnData, layer: str | None = None) -> sp.csr_array:
    """Take any finite values out of an AnnData: log-normalised, scaled, counts.

    Parameters
    ----------
    adata
        Cells x genes; dense, sparse or backed by a file.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.

    Returns
    -------
    Values (N, G) as CSR float32, a copy.

    Raises
    ------
    ValueError
        For an unknown layer, repeated names of cells or genes, an empty table, and values that
        are NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from pgm_expr.data import take_values
    >>> take_values(AnnData(np.array([[-0.5, 1.5]]))).toarray().tolist()
    [[-0.5, 1.5]]
    """
    csr = _named(adata, layer)
    bad = ~np.isfinite(csr.data)
    if bad.any():
        found = _found(adata, layer, csr, bad)
        raise ValueError(f"{place(layer)} must be finite: {found} {_REPAIR}")
    return csr.astype(np.float32, copy=True)


def take_log_values(adata: AnnData, layer: str | None = None) -> sp.csr_array:
    """Take log-normalised expression out of an AnnData, for stories of continuous values.

    Parameters
    ----------
    adata
        Cells x genes; dense, sparse or backed by a file.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.

    Returns
    -------
    Values (N, G) of at least 0 as CSR float32, a copy.

    Raises
    ------
    ValueError
        As `take_values`, and for counts, negative values and cells without any value.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from pgm_expr.data import take_log_values
    >>> take_log_values(AnnData(np.array([[0.0, 1.5]]))).toarray().tolist()
    [[0.0, 1.5]]
    """
    csr = take_values(adata, layer)
    if kind_of(adata, layer) == "counts":
        raise ValueError(
            f"{place(layer)} must hold log values: found whole counts. Pass a log-normalised "
            "layer, or fit a likelihood of counts (rounded-gaussian is Gaussian on their logs)."
        )
    bad = csr.data < 0
    if bad.any():
        do = "Pass values before centring and scaling."
        found = _found(adata, layer, csr, bad)
        raise ValueError(f"{place(layer)} must hold log values of at least 0: {found} {do}")
    refuse_empty(csr, adata.obs_names, place(layer), "Drop them.")
    return csr


def kind_of(adata: AnnData, layer: str | None = None) -> str:
    """Kind of the values that a matrix of an AnnData holds.

    Parameters
    ----------
    adata
        Cells x genes; dense, sparse or backed by a file.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.

    Returns
    -------
    "counts", "fractional", "log-like", "negative", "non-finite" or "empty" (zeros only).

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from pgm_expr.data import kind_of
    >>> kind_of(AnnData(np.array([[0.0, 3.0]]))), kind_of(AnnData(np.array([[0.0, 1.1]])))
    ('counts', 'log-like')
    """
    return summarise(matrix_of(adata, layer)).kind


_REPAIR = "Remove or repair these values."
_UNNORMALISED = (
    "Pass the layer of unnormalised counts (estimates such as RSEM's: round them with numpy.rint)."
)
_TOO_LARGE = (
    f"Counts of {FLOAT32_EXACT:,} or more are not exact in float32: drop that gene "
    "or fit a story of log values."
)


def _named(adata: AnnData, layer: str | None) -> sp.csr_array:
    """The matrix as CSR once its shape and the names of its rows and columns are in order."""
    matrix = matrix_of(adata, layer)
    if 0 in matrix.shape:
        cells, genes = matrix.shape
        raise ValueError(
            f"{place(layer)} holds {cells} cells and {genes} genes: nothing to learn from. "
            "Look at the filter before this step."
        )
    _refuse_repeated(adata.obs_names, "cell", "Call adata.obs_names_make_unique().")
    from_raw = layer == "raw" and adata.raw is not None
    rebuild = "Take adata = adata.raw.to_adata() and call" if from_raw else "Call"
    genes = adata.raw.var_names if from_raw else adata.var_names
    _refuse_repeated(genes, "gene", f"{rebuild} adata.var_names_make_unique().")
    return to_csr(matrix)


def _refuse_repeated(names: pd.Index, what: str, do: str) -> None:
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        first = repeated[0]
        raise ValueError(
            f"{what} names must be unique: {first!r} occurs {(names == first).sum()} times "
            f"({len(repeated)} {what} names are repeated). {do}"
        )


def _refuse(
    adata: AnnData, layer: str | None, csr: sp.csr_array, bad: np.ndarray, do: str
) -> None:
    if bad.any():
        found = _found(adata, layer, csr, bad)
        do = _counts_elsewhere(adata, layer) or do
        raise ValueError(f"{place(layer)} must hold raw counts: {found} {do}")


def _found(adata: AnnData, layer: str | None, csr: sp.csr_array, bad: np.ndarray) -> str:
    """The first stored entry that is bad, with its value, cell and gene."""
    entry = int(bad.argmax())
    cell = adata.obs_names[np.searchsorted(csr.indptr, entry, side="right") - 1]
    gene = gene_names(adata, layer)[csr.indices[entry]]
    return f"found {csr.data[entry]} at cell {cell!r}, gene {str(gene)!r}."


def _counts_elsewhere(adata: AnnData, layer: str | None) -> str:
    """A hint at another matrix of the data that holds raw counts, or an empty string."""
    if kind_of(adata, layer) == "counts":  # only too large: another copy is no better
        return ""
    for other in [None, *layer_names(adata)]:
        absent = other is None and adata.X is None
        if other != layer and not absent and kind_of(adata, other) == "counts":
            return f"But {place(other)} looks like raw counts: pass layer={other!r}."
    return ""


def refuse_empty(counts: sp.csr_array, names: pd.Index | np.ndarray, where: str, do: str) -> None:
    """Raise ValueError where rows of `counts` (canonical CSR) hold no count, naming the first."""
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if len(empty):
        raise ValueError(
            f"{where} must hold at least one count for each cell: found {len(empty)} cells "
            f"without any, first {str(names[empty[0]])!r}. {do}"
        )


def _attribute(adata: AnnData, layer: str) -> str:
    return "raw.X" if layer == "raw" and adata.raw is not None else f"layers[{layer!r}]"


def _drop_empty(stored: str) -> str:
    if stored == "adata":
        return "Drop them with scanpy.pp.filter_cells(adata, min_counts=1)."
    return f"Drop them: adata[scanpy.pp.filter_cells({stored}, min_counts=1)[0]].copy()."
