"""AnnData files are written whole or not at all."""

import anndata
import numpy as np
import pytest

from pgm_expr.data.write import check_out, write_h5ad


@pytest.fixture
def adata():
    return anndata.AnnData(np.eye(3, dtype=np.float32), obsm={"X_pgm_vae": np.ones((3, 2))})


def test_writes_and_replaces(adata, tmp_path):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(b"old")
    write_h5ad(adata, path)
    assert np.array_equal(anndata.read_h5ad(path).obsm["X_pgm_vae"], np.ones((3, 2)))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_the_old_file(adata, tmp_path, monkeypatch, failure):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(b"old")

    def fail(self, partial):
        partial.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fail)
    with pytest.raises(type(failure)):
        write_h5ad(adata, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_place_is_checked_before_any_work(tmp_path, monkeypatch):
    check_out(tmp_path / "new.h5ad")
    monkeypatch.chdir(tmp_path)
    check_out(type(tmp_path)("new.h5ad"))
    with pytest.raises(ValueError, match="must end in .h5ad: got '.csv'"):
        check_out(tmp_path / "new.csv")
    with pytest.raises(ValueError, match="no folder"):
        check_out(tmp_path / "none" / "new.h5ad")
    assert not list(tmp_path.iterdir())
