"""Data sets by name: one embedded in scanpy, two that scanpy downloads, and those of a folder.

The environment variable PGM_EXPR_DATA may name a folder. A file there is named without its
suffix, and takes precedence over an embedded or downloaded data set of that name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from pgm_expr.data.messages import listing, near, one_line
from pgm_expr.data.read import read, suffix_of

if TYPE_CHECKING:
    from anndata import AnnData

FOLDER = "PGM_EXPR_DATA"
SUFFIXES = (".h5ad", ".h5", ".csv", ".csv.gz", ".tsv", ".tsv.gz")  # .txt: mostly notes
DOWNLOADS = ("pbmc3k", "paul15")


def load_dataset(name_or_path: str | Path) -> AnnData:
    """Load a data set by its name, or a file by its path.

    Parameters
    ----------
    name_or_path
        One of `dataset_names`, or a path that `read` takes. A name takes precedence over a path
        of the same text; write `./name` for the path.

    Returns
    -------
    Raw counts of cells x genes in `X`.

    Raises
    ------
    ValueError
        For an unknown name, a download that fails, and a file that cannot be read.
    FileNotFoundError
        For a path that does not exist.

    Examples
    --------
    >>> from pgm_expr.data import load_dataset
    >>> adata = load_dataset("pbmc68k_reduced")
    >>> adata.shape, adata.obs["bulk_labels"].nunique()
    ((700, 765), 10)

    References
    ----------
    Zheng et al., Nature Communications 2017 (pbmc68k_reduced and pbmc3k: 10x Genomics),
    https://doi.org/10.1038/ncomms14049; Paul et al., Cell 2015 (paul15),
    https://doi.org/10.1016/j.cell.2015.11.013
    """
    name = str(name_or_path)
    held = _held()
    if name in held:
        return read(held[name])
    if name == "pbmc68k_reduced":
        return _pbmc68k_reduced()
    if name in DOWNLOADS:
        return _download(name)
    if os.path.exists(name) or os.sep in name or suffix_of(Path(name)):
        return read(name)
    raise ValueError(
        f"data set {name!r} is unknown: known are {listing(dataset_names(), 30)} "
        f"({_folder_says(held)}).{near(name, dataset_names())} Pass one of these or a path."
    )


def dataset_names() -> list[str]:
    """Names of the data sets that `load_dataset` knows.

    Returns
    -------
    Sorted names: embedded, downloadable, and files of the folder PGM_EXPR_DATA.

    Examples
    --------
    >>> from pgm_expr.data import dataset_names
    >>> {"paul15", "pbmc3k", "pbmc68k_reduced"} <= {*dataset_names()}
    True
    """
    return sorted({"pbmc68k_reduced", *DOWNLOADS, *_held()})


def _held() -> dict[str, Path]:
    """Files of the folder by their name without suffix."""
    folder = os.environ.get(FOLDER)
    if not folder or not Path(folder).is_dir():
        return {}
    files = [path for path in sorted(Path(folder).iterdir()) if suffix_of(path) in SUFFIXES]
    return {path.name[: -len(suffix_of(path))]: path for path in files}


def _folder_says(held: dict[str, Path]) -> str:
    folder = os.environ.get(FOLDER)
    if not folder:
        return f"{FOLDER} names no folder"
    if not Path(folder).is_dir():
        return f"the folder {folder} of {FOLDER} does not exist"
    return f"the folder {folder} of {FOLDER} holds {listing(held, 30)}"


def _download(name: str) -> AnnData:
    import scanpy as sc

    try:
        return getattr(sc.datasets, name)()
    except Exception as error:  # no network, a refusing server, or a file cut short on the way
        raise ValueError(
            f"data set {name!r} could not be downloaded to {sc.settings.datasetdir} "
            f"({one_line(error)}). Check the network, or put {name}.h5ad into a folder and name "
            f"that in {FOLDER}."
        ) from error


def _pbmc68k_reduced() -> AnnData:
    """700 cells x 765 genes of scanpy's package; its raw counts, undone from log1p(per 10,000)."""
    import scanpy as sc
    from anndata import AnnData

    source = sc.datasets.pbmc68k_reduced()
    total = source.obs["n_counts"].to_numpy(dtype=np.float64)
    scaled = sp.csr_array(source.raw.X, dtype=np.float64)
    scaled.data = np.expm1(scaled.data) * np.repeat(total, np.diff(scaled.indptr)) / 1e4
    counts = np.rint(scaled.data)
    deviation = float(np.abs(scaled.data - counts).max())
    if deviation > 0.1:  # .08 in every scanpy so far
        raise ValueError(
            "pbmc68k_reduced of this scanpy does not give back its counts: one is "
            f"{deviation:.2f} from an integer. Pass another data set."
        )
    scaled.data = counts.astype(np.int32)
    return AnnData(sp.csr_matrix(scaled), obs=source.obs.copy(), var=source.raw.var.copy())
