"""take_counts lets raw counts through unchanged and names the first thing that is not one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from pgm_expr.data import describe, gene_names, kind_of, take_counts, take_values

COUNTS = np.random.default_rng(0).poisson(0.7, (20, 9))
COUNTS[:, 0] += 1  # no empty cell
CELLS = [f"cell{i}" for i in range(20)]
GENES = [f"gene{i}" for i in range(9)]
LOG = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4)


def table(x=COUNTS, **layers):
    adata = AnnData(
        x if sp.issparse(x) else np.array(x),
        obs=pd.DataFrame(index=CELLS[: x.shape[0]]),
        var=pd.DataFrame(index=GENES[: x.shape[1]]),
    )
    for key, value in layers.items():
        adata.layers[key] = value
    return adata


def with_entry(value, dtype=np.float64):
    x = COUNTS.astype(dtype)
    x[3, 4] = value
    return x


def refused(adata, layer=None, take=take_counts):
    with pytest.raises(ValueError) as caught:
        take(adata, layer)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_every_form_and_type_gives_the_same_counts(form, dtype):
    counts = take_counts(table(form(COUNTS.astype(dtype))))
    assert isinstance(counts, sp.csr_array)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), COUNTS)


def test_half_precision_is_read():
    np.testing.assert_array_equal(take_counts(table(COUNTS.astype(np.float16))).toarray(), COUNTS)


def test_a_view_of_cells_and_genes():
    view = table(sp.csr_matrix(COUNTS))[[5, 2], 0:4]
    np.testing.assert_array_equal(take_counts(view).toarray(), COUNTS[[5, 2], 0:4])


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_backed_file(tmp_path, form):
    adata = table(form(COUNTS.astype(np.float32)))
    adata.raw = adata
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = read_h5ad(tmp_path / "a.h5ad", backed="r")
    for layer in (None, "raw"):
        np.testing.assert_array_equal(take_counts(backed, layer).toarray(), COUNTS)
    assert kind_of(backed) == "counts"
    backed.file.close()


def test_dense_matrix_of_many_blocks():
    many = np.tile(COUNTS, (1000, 1)).astype(np.float32)
    many[:, 1] = np.arange(20_000) % 17  # so that no two blocks of rows are alike
    dense, sparse = (
        AnnData(many.astype(np.float32)),
        AnnData(sp.csr_matrix(many, dtype=np.float32)),
    )
    np.testing.assert_array_equal(take_counts(dense).toarray(), many)
    assert describe(dense) == describe(sparse)


def test_stored_zeros_and_duplicates_are_merged_and_the_source_is_left_alone():
    data, columns = np.array([1.0, 2.0, 0.0, 5.0]), np.array([1, 1, 0, 2])
    source = sp.csr_matrix((data, columns, np.array([0, 3, 4])), shape=(2, 3))
    adata = AnnData(source)
    counts = take_counts(adata)
    np.testing.assert_array_equal(counts.toarray(), [[0, 3, 0], [0, 0, 5]])
    assert counts.nnz == 2
    counts.data[:] = -1
    np.testing.assert_array_equal(adata.X.data, [1, 2, 0, 5])


def test_layers_and_raw_have_their_own_values_and_genes():
    adata = table(counts=sp.csr_matrix(COUNTS))
    adata.raw = adata
    adata.X = LOG
    small = adata[:, :3].copy()
    np.testing.assert_array_equal(take_counts(small, "counts").toarray(), COUNTS[:, :3])
    np.testing.assert_array_equal(take_counts(small, "raw").toarray(), COUNTS)
    assert list(gene_names(small, "raw")) == GENES
    assert list(gene_names(small, "counts")) == GENES[:3]


def test_a_layer_called_raw_is_used_where_there_is_no_raw():
    adata = table(LOG, raw=COUNTS)
    np.testing.assert_array_equal(take_counts(adata, "raw").toarray(), COUNTS)


def test_unknown_layer_lists_and_guesses():
    message = refused(table(counts=COUNTS, spliced=COUNTS), "count")
    assert "layer 'count' is not in the data: its layers are 'counts', 'spliced'." in message
    assert "Did you mean 'counts'?" in message


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("value", [0.37, -2.0, np.nan, np.inf, 1e8])
def test_first_offending_entry_is_named(form, value):
    x = with_entry(value)
    x[10, 2] = value
    message = refused(table(form(x)))
    assert "X must hold raw counts" in message
    assert f"found {value} at cell 'cell3', gene 'gene4'." in message


def test_offender_after_an_empty_row_is_named():
    x = np.zeros((20, 9))
    x[7, 8] = 0.5
    assert "cell 'cell7', gene 'gene8'" in refused(table(sp.csr_matrix(x)))


@pytest.mark.parametrize(
    ("value", "do"),
    [(0.37, "unnormalised"), (-1, "uncentred"), (np.nan, "repair"), (2**24, "float32")],
)
def test_message_says_what_to_do(value, do):
    assert do in refused(table(with_entry(value)))


def test_the_layer_that_holds_counts_is_named():
    assert "layer 'counts' looks like raw counts: pass layer='counts'" in refused(
        table(LOG, scaled=LOG - 1, counts=COUNTS)
    )
    assert "X looks like raw counts: pass layer=None" in refused(table(log=LOG), "log")
    adata = table()
    adata.raw = adata
    adata.X = LOG
    assert "raw looks like raw counts: pass layer='raw'" in refused(adata)


def test_largest_exact_count_passes_and_the_next_does_not():
    assert take_counts(table(with_entry(2**24 - 1, np.int64))).max() == 2**24 - 1
    message = refused(table(with_entry(2**24 + 1, np.int64), counts=COUNTS))
    assert "found 16777217 at cell 'cell3'" in message
    assert "looks like" not in message


def test_repeated_names():
    adata = table()
    adata.var_names = ["A", "B", "A", "C", "B", "D", "E", "F", "G"]
    message = refused(adata)
    assert "gene names must be unique: 'A' occurs 2 times (2 gene names are repeated)" in message
    assert "Call adata.var_names_make_unique()" in message
    adata.var_names_make_unique()
    assert take_counts(adata).shape == (20, 9)
    adata.obs_names = ["same"] * 20
    assert "Call adata.obs_names_make_unique()" in refused(adata)


def test_repeated_names_of_raw_alone():
    adata = table()
    adata.var_names = ["A", "A", *GENES[2:]]
    adata.raw = adata
    adata = adata[:, 2:].copy()
    assert take_counts(adata).shape == (20, 7)
    assert "adata.raw.to_adata()" in refused(adata, "raw")


def test_empty_cells_are_counted_and_the_advice_works():
    x = COUNTS.astype(np.float32)
    x[[4, 9]] = 0
    adata = table(sp.csr_matrix(x), counts=sp.csr_matrix(x))
    adata.raw = adata
    assert "found 2 cells without any, first 'cell4'" in refused(adata)
    for layer in ("counts", "raw"):
        advice = refused(adata, layer).split("Drop them: ")[1].rstrip(".")
        kept = eval(advice, {"adata": adata, "scanpy": scanpy})
        assert take_counts(kept, layer).shape == (18, 9)
    scanpy.pp.filter_cells(adata, min_counts=1)
    assert take_counts(adata).shape == (18, 9)


def test_nothing_there():
    assert "0 cells and 9 genes" in refused(table(np.zeros((0, 9))))
    assert "20 cells and 0 genes" in refused(table(np.zeros((20, 0))))
    empty = AnnData(obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
    assert "X is absent" in refused(empty)


def test_values_that_are_no_numbers():
    assert "found type object" in refused(table(layer=COUNTS.astype(object)), "layer")


def test_take_values_lets_logs_through_but_not_nan():
    scaled = LOG - LOG.mean(0)
    np.testing.assert_allclose(take_values(table(scaled)).toarray(), scaled, rtol=1e-6, atol=1e-6)
    message = refused(table(with_entry(np.nan)), take=take_values)
    assert "X must be finite: found nan at cell 'cell3', gene 'gene4'." in message


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (COUNTS, "counts"),
        (COUNTS * 10.5, "fractional"),
        (COUNTS / COUNTS.sum(1, keepdims=True), "fractional"),
        (LOG, "log-like"),
        (LOG - 1, "negative"),
        (with_entry(np.nan), "non-finite"),
        (with_entry(-np.inf), "non-finite"),
        (np.zeros((20, 9)), "empty"),
        (np.zeros((0, 9)), "empty"),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_kinds(x, kind, form):
    assert kind_of(table(form(x))) == kind
