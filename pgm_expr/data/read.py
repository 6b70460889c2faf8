"""Files and folders as AnnData, by the readers of scanpy; one-line errors otherwise."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pgm_expr.data.messages import listing, one_line, refuse_absent

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MTX = "*matrix.mtx*"  # GEO puts a sample name before, and gzip a suffix behind
TEXT = {".csv": ",", ".tsv": "\t", ".txt": None}  # None: found from the header


def read(path: str | Path) -> AnnData:
    """Read a file or folder of counts.

    Parameters
    ----------
    path
        `.h5ad`, a 10x `.h5`, a 10x mtx folder, or `.csv`, `.tsv`, `.txt` (also with `.gz`) of
        cells x genes, gene names in the first row and cell names in the first column.

    Returns
    -------
    Cells x genes. Repeated gene symbols of 10x files are made unique by a suffix.

    Raises
    ------
    FileNotFoundError
        For a path that does not exist.
    ValueError
        For a file that cannot be read, with the reason.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pgm_expr.data import read
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "counts.csv")
    ...     _ = path.write_text("cell,CD3E,NKG7\\nc1,4,0\\nc2,0,7\\n")
    ...     adata = read(path)
    >>> adata.shape, list(adata.var_names)
    ((2, 2), ['CD3E', 'NKG7'])
    """
    path = Path(path)
    refuse_absent(path, "the data")
    reader = _reader(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} cannot be read: the file is empty (0 bytes). {_AGAIN}")
    try:
        return reader(path)
    except MemoryError:
        raise
    except Exception as error:  # the readers raise anything from KeyError to bare Exception
        raise ValueError(f"{path} cannot be read: {_reason(path, error)}") from error


_AGAIN = "Copy or download it again."


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the reader; `.gz` is looked through."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix + (".gz" if name.endswith(".gz") else "")


def _reader(path: Path) -> Callable[[Path], AnnData]:
    suffix = suffix_of(path)
    if path.is_dir():
        _check_folder(path)
        return _read_mtx
    if suffix == ".h5ad":
        return _read_h5ad
    if suffix == ".h5":
        return _read_10x
    if suffix.removesuffix(".gz") in TEXT:
        return _read_text
    do = "Pass the folder it lies in." if ".mtx" in suffix else "Convert it, say to .h5ad."
    raise ValueError(
        f"{path} has the unknown suffix {suffix!r}: known are .h5ad, .h5 (10x), a 10x mtx folder, "
        f".csv, .tsv, .txt and these three with .gz. {do}"
    )


def _read_h5ad(path: Path) -> AnnData:
    from anndata import read_h5ad

    return read_h5ad(path)


def _read_10x(path: Path) -> AnnData:
    import scanpy as sc

    with warnings.catch_warnings():  # repeated symbols are the rule in 10x files, and mended here
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        adata = sc.read_10x_h5(path)
        adata.var_names_make_unique()
    return adata


def _check_folder(path: Path) -> None:
    found = list(path.glob(MTX))
    if len(found) != 1:
        below = sorted({entry.parent.name for entry in path.glob(f"*/{MTX}")})
        do = f"Pass its folder {listing(below)}." if below else "Pass the folder that holds it."
        raise ValueError(f"{path} is a folder with {len(found)} matrix.mtx files, not one. {do}")


def _read_mtx(path: Path) -> AnnData:
    import scanpy as sc

    (matrix,) = path.glob(MTX)
    return sc.read_10x_mtx(path, prefix=matrix.name.split("matrix.mtx")[0] or None)


def _read_text(path: Path) -> AnnData:
    from anndata.io import read_csv

    return read_csv(path, delimiter=_delimiter(path), first_column_names=True)


def _delimiter(path: Path) -> str | None:
    """That of the suffix; a .txt may use tabs, commas or (None) runs of blanks."""
    known = TEXT[suffix_of(path).removesuffix(".gz")]
    if known:
        return known
    with _open_text(path) as file:
        header = file.readline()
    return next((mark for mark in "\t," if mark in header), None)


def _open_text(path: Path) -> IO[str]:
    return gzip.open(path, "rt") if path.suffix.lower() == ".gz" else path.open()


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return _reason_folder(error)
    return _reason_hdf5(path, error) if ".h5" in suffix_of(path) else _reason_text(path, error)


def _reason_folder(error: Exception) -> str:
    return (
        f"{one_line(error)}. Keep matrix.mtx.gz, features.tsv.gz and barcodes.tsv.gz together, "
        "or the three of the older kind, genes.tsv among them, uncompressed."
    )


def _reason_hdf5(path: Path, error: Exception) -> str:
    import h5py

    if not h5py.is_hdf5(path):
        return f"it is not an HDF5 file, despite its suffix. {_AGAIN}"
    if "truncated" in str(error):
        return f"the file is cut short. {_AGAIN}"
    try:
        with h5py.File(path) as file:
            groups = list(file)
    except (OSError, RuntimeError, KeyError):
        return f"the file is damaged ({one_line(error)}). {_AGAIN}"
    return _reason_foreign(groups, path, error)


def _reason_foreign(groups: list[str], path: Path, error: Exception) -> str:
    kind = "AnnData" if path.suffix == ".h5ad" else "10x"
    if path.suffix == ".h5" and {"X", "obs", "var"} <= set(groups):
        return "it is an AnnData file, not a 10x one. Rename it to .h5ad."
    if path.suffix == ".h5ad" and "matrix" in groups:
        return "it is a 10x file, not an AnnData one. Rename it to .h5."
    return (
        f"it is not a complete {kind} file: it holds {listing(groups)} ({one_line(error)}). "
        f"Write it again with {'adata.write_h5ad' if kind == 'AnnData' else 'Cell Ranger'}."
    )


def _reason_text(path: Path, error: Exception) -> str:
    import pandas as pd

    do = "Keep one header row of gene names, one column of cell names and numbers only."
    try:
        delimiter = _delimiter(path) or r"\s+"
        table = pd.read_csv(path, sep=delimiter, index_col=0)
    except Exception:  # damaged gzip, text of another encoding, ragged lines
        return f"{one_line(error)}. {do}"
    return f"{_not_a_number(table) or one_line(error)}. {do}"


def _not_a_number(table: pd.DataFrame) -> str:
    """The first column with a value that is not a number, and that value."""
    import pandas as pd

    for name in table.columns:
        bad = pd.to_numeric(table[name], errors="coerce").isna()
        if bad.any():
            row = bad.idxmax()
            value = table[name][bad].iloc[0]
            return f"column {str(name)!r} holds {str(value)!r}, not a number, in row {str(row)!r}"
    return ""
