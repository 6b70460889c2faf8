"""Data by name: embedded counts, a folder, downloads without a network."""

from __future__ import annotations

from urllib.error import URLError

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from pgm_expr.data import dataset_names, describe, load_dataset, take_counts


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("PGM_EXPR_DATA", raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, value in (("mine", 1.0), ("paul15", 2.0)):
        AnnData(sp.csr_matrix(np.full((3, 2), value))).write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "table.csv").write_text("cell,g1,g2\nA,1,2\n")
    (tmp_path / "README.md").write_text("a note")
    (tmp_path / "genes_mine.txt").write_text("a note")
    monkeypatch.setenv("PGM_EXPR_DATA", str(tmp_path))
    return tmp_path


def refused(name):
    with pytest.raises(ValueError) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_embedded_counts_are_the_ones_scanpy_normalised():
    adata = load_dataset("pbmc68k_reduced")
    source = sc.datasets.pbmc68k_reduced()
    assert adata.shape == (700, 765)
    assert adata.X.dtype == np.int32
    scale = 1e4 / source.obs["n_counts"].to_numpy(dtype=float)
    again = np.log1p(adata.X.toarray() * scale[:, None])
    np.testing.assert_allclose(again, source.raw.X.toarray(), rtol=2e-3)
    assert adata.obs["bulk_labels"].nunique() == 10
    assert list(adata.var_names) == list(source.raw.var_names)
    assert adata.raw is None
    assert take_counts(adata).sum() == adata.X.sum()
    assert describe(adata).matrices["X"].kind == "counts"


def test_embedded_counts_that_do_not_come_back_are_refused(monkeypatch):
    changed = sc.datasets.pbmc68k_reduced()
    changed.obs["n_counts"] *= 1.01
    monkeypatch.setattr(sc.datasets, "pbmc68k_reduced", lambda: changed)
    assert "does not give back its counts" in refused("pbmc68k_reduced")


def test_names(folder):
    assert dataset_names() == ["mine", "paul15", "pbmc3k", "pbmc68k_reduced", "table"]


def test_the_folder_wins_over_a_download(folder, monkeypatch):
    monkeypatch.setattr(sc.datasets, "paul15", lambda: pytest.fail("downloaded"))
    assert load_dataset("paul15").X.max() == 2
    assert load_dataset("mine").X.max() == 1
    assert load_dataset("table").shape == (1, 2)


def test_a_path(folder):
    assert load_dataset(folder / "mine.h5ad").shape == (3, 2)
    with pytest.raises(FileNotFoundError, match="Did you mean 'mine.h5ad'"):
        load_dataset(str(folder / "mime.h5ad"))


def test_a_name_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "pbmc68k_reduced").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_dataset("pbmc68k_reduced").n_obs == 700
    assert "0 matrix.mtx files" in refused("./pbmc68k_reduced")


def test_a_download_that_works(monkeypatch):
    monkeypatch.setattr(sc.datasets, "pbmc3k", lambda: AnnData(np.ones((2, 2))))
    assert load_dataset("pbmc3k").shape == (2, 2)


@pytest.mark.parametrize("name", ["pbmc3k", "paul15"])
def test_no_network(monkeypatch, name):
    def offline():
        raise URLError("Name or service not known")

    monkeypatch.setattr(sc.datasets, name, offline)
    message = refused(name)
    assert f"data set {name!r} could not be downloaded" in message
    assert "Name or service not known" in message
    assert f"put {name}.h5ad into a folder and name that in PGM_EXPR_DATA" in message


def test_unknown_name_lists_what_there_is(folder):
    message = refused("pbmc3")
    assert "known are 'mine', 'paul15', 'pbmc3k', 'pbmc68k_reduced', 'table'" in message
    assert f"the folder {folder} of PGM_EXPR_DATA holds 'mine', 'paul15', 'table'" in message
    assert "Did you mean 'pbmc3k'" in message


def test_unknown_name_without_a_folder(monkeypatch, tmp_path):
    assert "PGM_EXPR_DATA names no folder" in refused("nothing_like_it")
    monkeypatch.setenv("PGM_EXPR_DATA", str(tmp_path / "gone"))
    assert "does not exist" in refused("nothing_like_it")
