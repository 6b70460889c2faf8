"""Readers: what is written comes back, and what cannot be read is refused in one line."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from anndata import AnnData

from pgm_expr.data import read

COUNTS = np.random.default_rng(0).poisson(1.0, (30, 40)).astype(np.float32)
TABLE = "cell{0}g1{0}g2{0}g3\nA{0}1{0}2{0}3\nB{0}0{0}5{0}6\n"


@pytest.fixture
def h5ad(tmp_path):
    adata = AnnData(sp.csr_matrix(COUNTS))
    adata.obs["kind"] = pd.Categorical(["a", "b"] * 15)
    adata.write_h5ad(tmp_path / "good.h5ad")
    return tmp_path / "good.h5ad"


def write_10x(path, names):
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        csc = sp.csr_matrix(COUNTS.astype(np.int32))  # 10x stores genes x cells by column
        group["data"], group["indices"], group["indptr"] = csc.data, csc.indices, csc.indptr
        group["shape"] = np.array(COUNTS.shape[::-1])
        group["barcodes"] = np.array([f"c{i}" for i in range(30)], dtype="S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(40)], dtype="S")
        features["name"] = np.array(names, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * 40, dtype="S")
        features["genome"] = np.array(["hg"] * 40, dtype="S")


def write_mtx(folder, prefix=""):
    folder.mkdir()
    with gzip.open(folder / f"{prefix}matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, sp.coo_matrix(COUNTS.T.astype(np.int64)))
    with gzip.open(folder / f"{prefix}features.tsv.gz", "wt") as file:
        file.writelines(f"ENSG{i}\tgene{i}\tGene Expression\n" for i in range(40))
    with gzip.open(folder / f"{prefix}barcodes.tsv.gz", "wt") as file:
        file.writelines(f"c{i}\n" for i in range(30))
    return folder


def refused(path, error=ValueError):
    with pytest.raises(error) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_h5ad_comes_back(h5ad):
    adata = read(str(h5ad))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert list(adata.obs["kind"][:2]) == ["a", "b"]


def test_10x_h5_comes_back_with_unique_symbols(tmp_path):
    write_10x(tmp_path / "a.h5", ["TWIN", "TWIN", *(f"gene{i}" for i in range(2, 40))])
    adata = read(tmp_path / "a.h5")
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert list(adata.var_names[:3]) == ["TWIN", "TWIN-1", "gene2"]
    assert list(adata.obs_names[:2]) == ["c0", "c1"]


@pytest.mark.parametrize("prefix", ["", "GSM1_"])
def test_10x_folder_comes_back(tmp_path, prefix):
    adata = read(write_mtx(tmp_path / "mtx", prefix))
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.var_names[0] == "gene0"


@pytest.mark.parametrize(
    ("name", "mark"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t"), ("b.txt", " ")]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_text_comes_back(tmp_path, name, mark, zipped):
    path = tmp_path / (name + ".gz" * zipped)
    text = TABLE.format(mark).encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    adata = read(path)
    np.testing.assert_array_equal(adata.X, [[1, 2, 3], [0, 5, 6]])
    assert list(adata.obs_names) == ["A", "B"]
    assert list(adata.var_names) == ["g1", "g2", "g3"]


def test_numbers_as_cell_names_are_not_taken_for_counts(tmp_path):
    (tmp_path / "n.csv").write_text("cell,g1,g2\n7,1,3\n8,0,6\n")
    adata = read(tmp_path / "n.csv")
    assert list(adata.obs_names) == ["7", "8"]
    np.testing.assert_array_equal(adata.X, [[1, 3], [0, 6]])


def test_missing_file_names_its_neighbour(h5ad):
    message = refused(h5ad.parent / "god.h5ad", FileNotFoundError)
    assert "does not exist" in message
    assert "'good.h5ad'" in message


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    assert "'.xlsx'" in refused(tmp_path / "a.xlsx")
    (tmp_path / "matrix.mtx").write_text("x")
    assert "Pass the folder it lies in" in refused(tmp_path / "matrix.mtx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_h5ad(h5ad, share):
    whole = h5ad.read_bytes()
    h5ad.write_bytes(whole[: int(share * len(whole))])
    assert "cut short. Copy or download it again." in refused(h5ad)


def test_damaged_h5ad(h5ad):
    whole = bytearray(h5ad.read_bytes())
    whole[64 : len(whole)] = bytes(len(whole) - 64)
    h5ad.write_bytes(whole)
    assert "the file is damaged" in refused(h5ad)


@pytest.mark.parametrize("name", ["a.h5ad", "a.h5"])
def test_text_by_another_name(tmp_path, name):
    (tmp_path / name).write_text("hello\n" * 100)
    assert "not an HDF5 file" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5ad", "a.h5", "a.csv", "a.txt.gz"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert "empty (0 bytes)" in refused(tmp_path / name)


@pytest.mark.parametrize(("name", "kind"), [("a.h5ad", "AnnData"), ("a.h5", "10x")])
def test_foreign_hdf5(tmp_path, name, kind):
    with h5py.File(tmp_path / name, "w") as file:
        file["mystery"] = np.arange(3)
    message = refused(tmp_path / name)
    assert f"not a complete {kind} file: it holds 'mystery'" in message


def test_right_file_with_the_other_suffix(h5ad, tmp_path):
    h5ad.rename(tmp_path / "b.h5")
    assert "Rename it to .h5ad" in refused(tmp_path / "b.h5")
    write_10x(tmp_path / "c.h5ad", [f"g{i}" for i in range(40)])
    assert "Rename it to .h5." in refused(tmp_path / "c.h5ad")


def test_folder_without_a_matrix(tmp_path):
    assert "0 matrix.mtx files" in refused(tmp_path)
    write_mtx(tmp_path / "hg19")
    assert "Pass its folder 'hg19'" in refused(tmp_path)


def test_folder_without_barcodes(tmp_path):
    folder = write_mtx(tmp_path / "mtx")
    (folder / "barcodes.tsv.gz").unlink()
    assert "Keep matrix.mtx.gz, features.tsv.gz and barcodes.tsv.gz" in refused(folder)


def test_folder_with_a_damaged_matrix(tmp_path):
    folder = write_mtx(tmp_path / "mtx")
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(b"no matrix\n"))
    assert "Keep matrix.mtx.gz" in refused(folder)


def test_table_with_a_column_of_words(tmp_path):
    (tmp_path / "a.csv").write_text("cell,g1,type,g3\nA,1,T cell,3\nB,0,B cell,6\n")
    message = refused(tmp_path / "a.csv")
    assert "column 'type' holds 'T cell', not a number, in row 'A'" in message
    assert "numbers only" in message


def test_table_with_a_gap(tmp_path):
    (tmp_path / "a.csv").write_text("cell,g1,g2\nA,1,3\nB,0,\n")
    assert "column 'g2' holds 'nan', not a number, in row 'B'" in refused(tmp_path / "a.csv")


def test_ragged_table_and_wrong_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text("cell,g1,g2\nA,1\nB,0,6\n")
    assert "Keep one header row" in refused(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(TABLE.format(";"))
    assert "delimiter" in refused(tmp_path / "b.csv")


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(TABLE.format(",").encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "Keep one header row" in refused(tmp_path / "a.csv.gz")
    (tmp_path / "c.csv.gz").write_bytes(whole[:12] + b"damage" + whole[18:])
    assert "Keep one header row" in refused(tmp_path / "c.csv.gz")
    (tmp_path / "b.txt.gz").write_text(TABLE.format(","))
    assert "gzip" in refused(tmp_path / "b.txt.gz")
