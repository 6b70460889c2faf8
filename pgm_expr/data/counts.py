"""Raw counts out of an AnnData, checked at the door; and a page that says what an AnnData holds.

What is wrong is named by cell, gene and value, with the thing to do; nothing behind this file
checks counts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from pgm_expr.data.matrix import (
    Values,
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
    "Column",
    "Description",
    "describe",
    "gene_names",
    "kind_of",
    "refuse_empty",
    "take_counts",
    "take_log_values",
    "take_values",
]

FLOAT32_EXACT = 2**24  # from here on float32 skips integers


def take_counts(adata: AnnData, layer: str | None = None) -> sp.csr_array:
    """Raw counts, (N, G) CSR float32, a copy: of X (None), of `raw`, or of the named layer.

    The columns are `gene_names(adata, layer)`. Raises ValueError in one line for an unknown
    layer, repeated or missing cells and genes, values that are not counts, counts that float32
    cannot hold, and cells without any count.
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
    """Any finite values (log-normalised, scaled, counts), (N, G) CSR float32, a copy.

    For stories of continuous expression. Raises ValueError like `take_counts`, but only for
    names, shape and values that are NaN or infinite.
    """
    csr = _named(adata, layer)
    bad = ~np.isfinite(csr.data)
    if bad.any():
        found = _found(adata, layer, csr, bad)
        raise ValueError(f"{place(layer)} must be finite: {found} {_REPAIR}")
    return csr.astype(np.float32, copy=True)


def take_log_values(adata: AnnData, layer: str | None = None) -> sp.csr_array:
    """Log values of expression, (N, G) CSR float32, a copy: finite and at least 0.

    Raises ValueError like `take_values`, and for counts, negative values and cells without any.
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
    """Kind of values of that matrix; the kinds are those of `Values`."""
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


@dataclass(frozen=True)
class Column:
    """One column of obs: its number of distinct values, and its range or its largest levels."""

    name: str
    numeric: bool
    levels: int
    missing: int
    detail: str

    def __str__(self) -> str:
        """`2 levels, 0 missing: B (344), NK (155)`."""
        what = "numeric" if self.numeric else f"{self.levels} levels"
        return f"{what}, {self.missing} missing: {self.detail}"


@dataclass(frozen=True)
class Description:
    """What an AnnData holds: its values by matrix name (X, raw, layers) and its obs columns."""

    cells: int
    genes: int
    matrices: dict[str, Values]
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        """A page to read: size, a line a matrix, a line a column."""
        names = [*self.matrices, *(column.name for column in self.columns)]
        width = max(map(len, names), default=0)
        lines = [f"{self.cells:,} cells x {self.genes:,} genes", "", "values"]
        lines += [f"  {name:<{width}}  {_line(values)}" for name, values in self.matrices.items()]
        lines += ["", "obs columns" if self.columns else "obs columns: none"]
        lines += [f"  {column.name:<{width}}  {column}" for column in self.columns]
        return "\n".join(lines)


def _line(values: Values) -> str:
    shape = f"{values.shape[0]:,} x {values.shape[1]:,}"
    return (
        f"{values.kind}, {shape}, from {values.minimum:.6g} to {values.maximum:.6g}, "
        f"{values.zero_fraction:.1%} zeros, median library {values.median_library:,.6g}"
    )


def describe(adata: AnnData) -> Description:
    """Summarise X, raw and each layer, and the columns of obs; `str()` of it is a page."""
    sources = [None] * (adata.X is not None) + layer_names(adata)
    return Description(
        cells=adata.n_obs,
        genes=adata.n_vars,
        matrices={layer or "X": summarise(matrix_of(adata, layer)) for layer in sources},
        columns=tuple(_column(str(name), adata.obs[name]) for name in adata.obs),
    )


def _column(name: str, values: pd.Series) -> Column:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numeric = is_numeric_dtype(values) and not is_bool_dtype(values)
    counts = values.astype(object).value_counts()  # as objects: only levels that occur
    detail = _range(values) if numeric else _top(counts)
    return Column(name, numeric, len(counts), int(values.isna().sum()), detail)


def _range(values: pd.Series) -> str:
    known = values.dropna()
    return f"{known.min():.4g} to {known.max():.4g}" if len(known) else "no value"


def _top(counts: pd.Series, limit: int = 6) -> str:
    shown = ", ".join(f"{level} ({count})" for level, count in counts.head(limit).items())
    return (shown or "no value") + (", ..." if len(counts) > limit else "")
