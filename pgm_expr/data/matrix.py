"""The matrices of an AnnData (X, layers, raw): find one, walk over its rows, summarise its values.

Dense, CSR, CSC and backed matrices are all returned as CSR; nothing is made dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pgm_expr.data.messages import listing, near

if TYPE_CHECKING:
    from anndata import AnnData

ROWS = 8192  # rows looked at in one go, so that a backed or dense matrix is never held twice
LOG_CEILING = 20.0  # log2(1e6 + 1) = 19.93: no logarithm of a normalised expression goes higher


def layer_names(adata: AnnData) -> list[str]:
    """Every name that `layer` may take beside None, which stands for X."""
    raw = ["raw"] if adata.raw is not None else []
    named = [name for name in adata.layers if name is not None]  # anndata 0.13 lists X as None
    return list(dict.fromkeys([*raw, *named]))


def place(layer: str | None) -> str:
    """How messages name a matrix: `X`, `raw` or `layer 'counts'`."""
    return "X" if layer is None else "raw" if layer == "raw" else f"layer {layer!r}"


def matrix_of(adata: AnnData, layer: str | None) -> Any:
    """The matrix as it is stored. `raw` is `adata.raw`, or a layer of that name where it is None.

    Raises ValueError for an unknown layer, an absent X and values that are not numbers.
    """
    if layer is not None and layer not in layer_names(adata):
        raise ValueError(
            f"layer {layer!r} is not in the data: its layers are {listing(layer_names(adata))}."
            f"{near(layer, layer_names(adata))} Pass one of them, or None for X."
        )
    matrix = _stored(adata, layer)
    if matrix is None:
        raise ValueError(f"X is absent from the data: pass layer= {listing(layer_names(adata))}.")
    if matrix.dtype.kind not in "biuf":
        raise ValueError(
            f"{place(layer)} must hold numbers: found type {matrix.dtype}. Convert it to float32."
        )
    return matrix


def _stored(adata: AnnData, layer: str | None) -> Any:
    if layer is None:
        return adata.X
    return adata.raw.X if _is_raw(adata, layer) else adata.layers[layer]


def _is_raw(adata: AnnData, layer: str | None) -> bool:
    return layer == "raw" and adata.raw is not None


def gene_names(adata: AnnData, layer: str | None = None) -> np.ndarray:
    """Names of the genes of a matrix, as `adata.raw` may have others than `adata.X`.

    Parameters
    ----------
    adata
        Cells x genes.
    layer
        None for `X`, "raw" for `adata.raw`, or the name of a layer.

    Returns
    -------
    Strings, (G,).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from pgm_expr.data import gene_names
    >>> gene_names(AnnData(np.ones((1, 2)), var=pd.DataFrame(index=["CD3E", "NKG7"]))).tolist()
    ['CD3E', 'NKG7']
    """
    names = adata.raw.var_names if _is_raw(adata, layer) else adata.var_names
    return names.to_numpy(dtype=str)


def to_csr(matrix: Any) -> sp.csr_array:
    """The whole matrix as CSR in its own dtype; may share memory with `matrix`."""
    if hasattr(matrix, "to_memory"):  # a sparse matrix backed by its file
        matrix = matrix.to_memory()
    if sp.issparse(matrix):
        return canonical(sp.csr_array(matrix))
    return sp.vstack(list(_dense_blocks(matrix)), format="csr")


def row_blocks(matrix: Any) -> Iterator[sp.csr_array]:
    """The matrix in CSR blocks of at most ROWS rows (one block of no rows if it has none)."""
    if not (sp.issparse(matrix) or hasattr(matrix, "to_memory")):
        yield from _dense_blocks(matrix)
        return
    csr = to_csr(matrix)
    for start in range(0, max(csr.shape[0], 1), ROWS):
        yield csr[start : start + ROWS]


def _dense_blocks(matrix: Any) -> Iterator[sp.csr_array]:
    for start in range(0, max(matrix.shape[0], 1), ROWS):
        block = np.asarray(matrix[start : start + ROWS])
        if block.dtype == np.float16:  # the one width scipy.sparse does not know
            block = block.astype(np.float32)
        yield sp.csr_array(block)


def canonical(csr: sp.csr_array) -> sp.csr_array:
    """Sorted, without duplicate entries and stored zeros; a copy unless it is so already."""
    if csr.has_canonical_format and csr.data.all():
        return csr
    csr = csr.copy()
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


@dataclass(frozen=True)
class Values:
    """What a matrix holds; minimum, maximum and libraries are over its finite entries.

    kind: "counts", "fractional", "log-like", "negative", "non-finite" or "empty".
    """

    shape: tuple[int, int]
    kind: str
    minimum: float
    maximum: float
    zero_fraction: float
    median_library: float


def summarise(matrix: Any) -> Values:
    """Look at every value of the matrix once, block by block."""
    parts = [_summarise_block(block) for block in row_blocks(matrix)]
    low, high, stored, finite, whole, libraries = zip(*parts, strict=True)
    size = matrix.shape[0] * matrix.shape[1]
    minimum, maximum = (float(min(low)), float(max(high))) if size else (0.0, 0.0)
    return Values(
        shape=(int(matrix.shape[0]), int(matrix.shape[1])),
        kind=_kind(minimum, maximum, sum(stored), all(finite), all(whole)),
        minimum=minimum,
        maximum=maximum,
        zero_fraction=1.0 - sum(stored) / size if size else 0.0,
        median_library=float(np.median(np.concatenate(libraries))) if size else 0.0,
    )


def _summarise_block(block: sp.csr_array) -> tuple[float, float, int, bool, bool, np.ndarray]:
    data = block.data.astype(np.float64)
    finite = np.isfinite(data)
    data[~finite] = 0.0
    known = data[finite]
    implied = [0.0] if block.nnz < block.shape[0] * block.shape[1] else []
    ends = np.concatenate([known, implied]) if known.size else np.zeros(1)
    libraries = sp.csr_array((data, block.indices, block.indptr), shape=block.shape).sum(axis=1)
    whole = bool((np.rint(known) == known).all())
    return ends.min(), ends.max(), block.nnz, bool(finite.all()), whole, libraries


def _kind(minimum: float, maximum: float, stored: int, finite: bool, whole: bool) -> str:
    if not finite:
        return "non-finite"
    if not stored:
        return "empty"
    if minimum < 0:
        return "negative"
    if whole:
        return "counts"
    return "log-like" if 1.0 < maximum <= LOG_CEILING else "fractional"
