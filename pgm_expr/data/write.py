"""Writing files of cells whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def check_out(path: Path, *suffixes: str) -> None:
    """ValueError where `path` cannot be written as a file with one of these suffixes, .h5ad by
    default; checked before any work is done."""
    suffixes = suffixes or (".h5ad",)
    if path.suffix not in suffixes:
        wanted = " or ".join(suffixes)
        raise ValueError(f"'{path}' must end in {wanted}: got '{path.suffix}'. Rename it.")
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
