"""Writing AnnData files whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def check_h5ad(path: Path) -> None:
    """ValueError where `path` is no place for an .h5ad file; asked before any work is done."""
    if path.suffix != ".h5ad":
        raise ValueError(f"'{path}' must end in .h5ad: got '{path.suffix}'. Rename it.")
    if not path.resolve().parent.is_dir():
        raise ValueError(f"'{path}': no folder {path.parent}. Make it first.")


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write beside the target, then replace it in one step."""
    partial = path.with_name(f".{path.name}-partial.h5ad")
    try:
        adata.write_h5ad(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
