"""Minibatches: dense and sparse agree, epochs shuffle by seed, sweeps miss nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pgm_expr.data import Cells, content_hash, epoch, sweep

N, G = 53, 7
COUNTS = np.random.default_rng(0).poisson(1.0, (N, G)).astype(np.float32)
COUNTS[:, 2] += 1
COLUMNS = {
    "label": np.arange(N) % 3 - 1,
    "batch": np.arange(N) % 2,
    "condition": np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32),
}


def cells(budget=2**30):
    return Cells(sp.csr_array(COUNTS), COLUMNS, budget=budget)


@pytest.fixture(params=["dense", "sparse"])
def table(request):
    table = cells(2**30 if request.param == "dense" else 0)
    assert table.is_dense == (request.param == "dense")
    return table


def test_a_minibatch_by_hand(table):
    index = np.array([5, 0, 52, 5])
    batch = table.rows(index)
    assert set(batch) == {"x", "library", "index", "label", "batch", "condition"}
    np.testing.assert_array_equal(batch["x"], COUNTS[index])
    np.testing.assert_array_equal(batch["library"], COUNTS[index].sum(1, keepdims=True))
    np.testing.assert_array_equal(batch["index"], index)
    for key, value in COLUMNS.items():
        np.testing.assert_array_equal(batch[key], value[index])


def test_types_and_shapes(table):
    batch = table.rows([1, 2])
    kinds = {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()}
    assert kinds == {
        "x": (torch.float32, (2, G)),
        "library": (torch.float32, (2, 1)),
        "index": (torch.int64, (2,)),
        "label": (torch.int64, (2,)),
        "batch": (torch.int64, (2,)),
        "condition": (torch.float32, (2, 4)),
    }


def test_size_and_library(table):
    assert len(table) == N
    np.testing.assert_array_equal(table.library, COUNTS.sum(1, keepdims=True))
    assert Cells(sp.csr_array(COUNTS)).columns == {}


def test_budget_is_in_bytes_of_the_dense_matrix():
    assert cells(4 * N * G).is_dense
    assert not cells(4 * N * G - 1).is_dense


def test_library_of_large_counts_is_summed_exactly():
    counts = np.ones((1, 5000), dtype=np.float32)
    counts[0, 0] = 2**24 - 1
    library = Cells(sp.csr_array(counts)).library
    assert library.item() == np.float32(2**24 - 1 + 4999)


def test_a_minibatch_does_not_share_memory_with_the_table():
    table = cells()
    table.rows([0])["x"].zero_()
    np.testing.assert_array_equal(table.rows([0])["x"], COUNTS[:1])


def test_to_keeps_the_source(table):
    moved = table.to("meta")
    assert moved.device.type == "meta"
    assert table.device.type == "cpu"
    assert table.rows([0])["x"].device.type == "cpu"
    assert table.rows([0], device="meta")["x"].device.type == "meta"
    assert moved.rows(torch.tensor([0, 1]))["label"].device.type == "meta"


def withheld_by_hand(batch):
    """The same minibatch, its label and target unknown."""
    n = len(batch["library"])
    unknown = {"label": torch.full((n,), -1), "target": torch.full((n, 1), torch.nan)}
    return {**batch, **unknown}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("columns", [COLUMNS, {}], ids=["labelled", "no columns"])
@pytest.mark.parametrize("budget", [2**30, 0], ids=["dense", "sparse"])
def test_withheld_cells_hide_what_is_predicted(budget, columns, device):
    """Minibatch by minibatch, in the order of the entries; on both sides of `to`."""
    table = Cells(sp.csr_array(COUNTS), columns, budget=budget)
    index = np.random.default_rng(0).permutation(N)
    for hidden in (table.withheld().to(device), table.to(device).withheld()):
        pairs = zip(sweep(hidden, index, 20), sweep(table, index, 20), strict=True)
        for found, seen in pairs:
            expected = withheld_by_hand(seen)
            assert list(found) == list(expected)
            for key, value in expected.items():
                assert found[key].device.type == device
                assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
                if device == "cpu":
                    np.testing.assert_array_equal(found[key], value)


def test_withheld_cells_share_the_counts_and_leave_the_table_alone(table):
    hidden = table.withheld()
    assert hidden.counts is table.counts and len(hidden) == N
    np.testing.assert_array_equal(table.rows([0, 1, 2])["label"], COLUMNS["label"][:3])
    np.testing.assert_array_equal(hidden.columns["label"], np.full(N, -1))
    assert np.isnan(hidden.columns["target"]).all() and hidden.columns["target"].shape == (N, 1)
    assert "target" not in table.columns
    hidden.rows([0, 1])["label"].zero_()
    np.testing.assert_array_equal(hidden.rows([0, 1])["label"], [-1, -1])


@pytest.mark.cuda
def test_rows_on_a_cuda_device(table):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    moved = table.to("cuda")
    for batch in epoch(moved, np.arange(N), 8, 0):
        assert {value.device.type for value in batch.values()} == {"cuda"}
        np.testing.assert_array_equal(batch["x"].cpu(), COUNTS[batch["index"].cpu()])


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="label must have one row per cell: got 3 for 53"):
        Cells(sp.csr_array(COUNTS), {"label": np.zeros(3)})
    with pytest.raises(ValueError, match="names must have one row per cell: got 1 for 53"):
        Cells(sp.csr_array(COUNTS), names=["a"])
    with pytest.raises(ValueError, match="genes must name each column: got 1 for 7"):
        Cells(sp.csr_array(COUNTS), genes=["a"])


def test_an_empty_cell_is_refused():
    counts = COUNTS.copy()
    counts[[3, 9]] = 0
    with pytest.raises(ValueError, match="found 2 cells without any, first 'name3'"):
        Cells(sp.csr_array(counts), names=[f"name{i}" for i in range(N)])


def seen(batches):
    return [batch["index"].tolist() for batch in batches]


def test_epoch_drops_its_remainder_and_repeats_no_cell(table):
    index = np.arange(3, 43)
    batches = seen(epoch(table, index, 16, 0))
    assert [len(batch) for batch in batches] == [16, 16]
    flat = sum(batches, [])
    assert len(set(flat)) == 32
    assert set(flat) <= set(index)
    assert flat != sorted(flat)


def test_epoch_is_a_function_of_the_seed(table):
    index = np.arange(40)
    first, second = (seen(epoch(table, index, 8, seed)) for seed in (0, 0))
    assert first == second
    assert seen(epoch(table, index, 8, 1)) != first


def test_dense_and_sparse_epochs_agree():
    for one, other in zip(
        epoch(cells(), np.arange(N), 8, 5), epoch(cells(0), np.arange(N), 8, 5), strict=True
    ):
        for key in one:
            assert torch.equal(one[key], other[key])


def test_a_generator_moves_on():
    order = torch.Generator().manual_seed(0)
    first = seen(epoch(cells(), np.arange(40), 8, order))
    assert seen(epoch(cells(), np.arange(40), 8, order)) != first
    assert seen(epoch(cells(), np.arange(40), 8, 0)) == first


def test_few_cells_make_one_batch(table):
    assert [sorted(batch) for batch in seen(epoch(table, [4, 8, 15], 128, 0))] == [[4, 8, 15]]


def test_sweep_covers_all_in_order(table):
    index = np.random.default_rng(0).permutation(N)
    batches = seen(sweep(table, index, 10))
    assert [len(batch) for batch in batches] == [10] * 5 + [3]
    assert sum(batches, []) == index.tolist()


@pytest.mark.parametrize("make", [lambda *a: epoch(*a, 0), sweep])
def test_no_cells_or_no_size(make):
    with pytest.raises(ValueError, match="got 0 cells and size 8"):
        make(cells(), [], 8)
    with pytest.raises(ValueError, match="got 2 cells and size 0"):
        make(cells(), [1, 2], 0)


@pytest.mark.parametrize("mask", [np.ones(N, dtype=bool), torch.ones(N, dtype=torch.bool)])
def test_a_mask_is_not_taken_for_positions(table, mask):
    with pytest.raises(ValueError, match="got a mask"):
        table.rows(mask)


GENES, NAMES = [f"g{i}" for i in range(G)], [f"c{i}" for i in range(N)]


def test_hash_is_of_the_data_not_of_their_form():
    csr = sp.csr_array(COUNTS)
    expected = content_hash(csr, GENES, NAMES)
    assert len(bytes.fromhex(expected)) == hashlib.sha256().digest_size
    wide = sp.csr_array((csr.data.astype(np.int64), csr.indices.astype(np.int64), csr.indptr))
    assert content_hash(wide, np.array(GENES), tuple(NAMES)) == expected
    padded = sp.csr_array(np.where(COUNTS == 0, 1, COUNTS))
    padded.data[sp.csr_array(np.where(COUNTS == 0, -1, COUNTS)).data < 0] = 0
    assert padded.nnz > csr.nnz
    assert content_hash(padded, GENES, NAMES) == expected


def test_hash_sees_every_change():
    csr = sp.csr_array(COUNTS)
    more = COUNTS.copy()
    more[0, 0] += 1
    swapped = [1, 0, *range(2, N)]
    variants = [
        (csr, GENES, NAMES),
        (sp.csr_array(more), GENES, NAMES),
        (csr[swapped], GENES, NAMES),
        (csr, GENES[::-1], NAMES),
        (csr, GENES, ["c1", "c0", *NAMES[2:]]),
        (csr, ["g0g1", "", *GENES[2:]], NAMES),
    ]
    assert len({content_hash(*variant) for variant in variants}) == len(variants)


def test_an_entry_can_stay_where_the_others_are_withheld(table):
    hidden = table.withheld(but=["label"]).rows([0, 1, 2])
    np.testing.assert_array_equal(hidden["label"], COLUMNS["label"][:3])
    assert hidden["target"].isnan().all()
