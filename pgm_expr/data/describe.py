"""A summary of an AnnData: its matrices and its columns of obs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgm_expr.data.matrix import Values, layer_names, matrix_of, summarise

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class Column:
    """One column of obs.

    Parameters
    ----------
    name
        Its name.
    numeric
        Whether it holds numbers.
    levels
        Number of distinct values.
    missing
        Number of cells without a value.
    detail
        Range of a numeric column, otherwise the most frequent levels with their cells.
    """

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
    """What an AnnData holds; `str` of it is a page.

    Parameters
    ----------
    cells, genes
        Their numbers.
    matrices
        Values by the name of the matrix: X, raw, layers.
    columns
        Columns of obs.
    """

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
    """Summarise X, raw and each layer of an AnnData, and its columns of obs.

    Parameters
    ----------
    adata
        Cells x genes; dense, sparse or backed by a file.

    Returns
    -------
    The summary; `str` of it is a page to read.

    Raises
    ------
    ValueError
        For a matrix that does not hold numbers.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from pgm_expr.data import describe
    >>> obs = pd.DataFrame({"type": ["B", "T", "B"]}, index=["c1", "c2", "c3"])
    >>> print(describe(AnnData(np.array([[0.0, 3.0], [1.0, 0.0], [2.0, 2.0]]), obs=obs)))
    3 cells x 2 genes
    <BLANKLINE>
    values
      X     counts, 3 x 2, from 0 to 3, 33.3% zeros, median library 3
    <BLANKLINE>
    obs columns
      type  2 levels, 0 missing: B (2), T (1)
    """
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
