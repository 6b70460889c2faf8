"""Genes are chosen on training cells alone; query data come in the order of the run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from pgm_expr.data import (
    align,
    choose_genes,
    detected,
    load_dataset,
    random_split,
    take_counts,
    take_values,
)

GENES = ["CD3E", "MS4A1", "NKG7", "LYZ", "PPBP", "GNLY"]


def csr(rows):
    return sp.csr_array(np.array(rows, dtype=np.float32))


def query(counts, genes, **var):
    index = [f"cell{i}" for i in range(len(counts))]
    return AnnData(
        np.array(counts, dtype=np.float32),
        obs=pd.DataFrame(index=index),
        var=pd.DataFrame(var, index=list(genes)),
    )


def test_detected():
    counts = csr([[0, 1, 0], [0, 2, 3]])
    counts.data[2] = 0  # a stored zero is no count
    np.testing.assert_array_equal(detected(counts), [False, True, False])


def test_min_cells_counts_training_cells_only():
    counts = csr([[1, 0, 1, 1], [1, 0, 0, 1], [0, 5, 1, 1], [0, 5, 1, 1]])
    train = np.array([0, 1])
    np.testing.assert_array_equal(choose_genes(counts, train), [0, 1, 2, 3])
    np.testing.assert_array_equal(choose_genes(counts, train, min_cells=1), [0, 2, 3])
    np.testing.assert_array_equal(choose_genes(counts, train, min_cells=2), [0, 3])
    with pytest.raises(ValueError, match="none has a count in min_cells=3 of the 2 training"):
        choose_genes(counts, train, min_cells=3)


def test_silent_genes_are_dropped_with_a_count():
    with pytest.warns(UserWarning, match="^2 genes without any count are left out"):
        chosen = choose_genes(csr([[0, 1, 0], [0, 2, 0]]), np.array([0, 1]))
    np.testing.assert_array_equal(chosen, [1])


@pytest.fixture(scope="module")
def noisy():
    """300 cells x 200 genes of Poisson noise; genes 20 to 39 vary between two halves."""
    rng = np.random.default_rng(0)
    mean = np.tile(rng.gamma(2.0, 2.0, 200), (300, 1))
    mean[:, 20:40] = 3.0
    mean[:150, 20:40] *= 6
    return csr(rng.poisson(mean))


def test_variable_genes_are_found(noisy):
    chosen = choose_genes(noisy, np.arange(300), n_top_genes=20)
    assert len(chosen) == 20
    assert (np.diff(chosen) > 0).all()
    assert len(set(chosen) & set(range(20, 40))) >= 18


def test_test_cells_do_not_choose_genes(noisy):
    train = np.arange(0, 300, 2)
    changed = noisy.toarray()
    changed[1::2] = np.random.default_rng(1).permuted(changed[1::2] * 7, axis=1)
    expected = choose_genes(noisy, train, n_top_genes=20)
    np.testing.assert_array_equal(choose_genes(csr(changed), train, n_top_genes=20), expected)


def test_more_top_genes_than_genes_keeps_all(noisy):
    assert len(choose_genes(noisy, np.arange(300), n_top_genes=200)) == 200


def test_ranking_that_cannot_be_fitted():
    counts = csr(np.random.default_rng(0).poisson(2, (10, 4)) + 1)
    with pytest.raises(ValueError, match="n_top_genes=2 cannot be ranked among 4 genes") as caught:
        choose_genes(counts, np.arange(10), n_top_genes=2)
    assert "\n" not in str(caught.value)


def test_pbmc3k_protocol_gives_the_published_genes():
    folder = Path(os.environ.get("PGM_EXPR_DATA", "absent"))
    if not (folder / "genes_pbmc3k.txt").exists():
        pytest.skip("PGM_EXPR_DATA does not name the folder with genes_pbmc3k.txt")
    adata = load_dataset("pbmc3k")
    adata = adata[adata.obs["cell_type"] != "unassigned"]
    development = random_split(adata.n_obs, seed=0).development
    with pytest.warns(UserWarning, match="genes without any count"):
        chosen = choose_genes(take_counts(adata), development, min_cells=3, n_top_genes=2000)
    published = (folder / "genes_pbmc3k.txt").read_text().split()
    assert set(adata.var_names[chosen]) == set(published)


def test_align_reorders():
    counts = np.arange(1, 13).reshape(2, 6)
    order = [3, 0, 5, 1, 4, 2]
    aligned = align(query(counts[:, order], np.array(GENES)[order]), GENES)
    assert isinstance(aligned, sp.csr_array)
    np.testing.assert_array_equal(aligned.toarray(), counts)
    assert aligned.has_sorted_indices


def test_align_drops_other_genes_and_fills_missing_ones():
    adata = query([[1, 2, 3, 9], [4, 5, 6, 9]], ["LYZ", "CD3E", "NKG7", "OTHER"])
    with pytest.warns(UserWarning, match="^2 of the 5 modelled genes.*'MS4A1', 'PPBP'"):
        aligned = align(adata, GENES[:5])
    np.testing.assert_array_equal(aligned.toarray(), [[2, 0, 3, 1, 0], [5, 0, 6, 4, 0]])


def test_align_takes_a_layer():
    adata = query([[0.5, 1.5]], ["B", "A"])
    adata.layers["counts"] = np.array([[1, 2]])
    np.testing.assert_array_equal(align(adata, ["A", "B"], "counts").toarray(), [[2, 1]])


def test_align_takes_continuous_values():
    adata = query([[0.5, -1.5]], ["B", "A"])
    aligned = align(adata, ["A", "B"], take=take_values)
    np.testing.assert_array_equal(aligned.toarray(), [[-1.5, 0.5]])
    with pytest.raises(ValueError, match="must hold raw counts: found -1.5"):
        align(adata, ["A", "B"])


def mismatch(adata, genes=GENES):
    with pytest.raises(ValueError) as caught:
        align(adata, genes)
    assert "\n" not in str(caught.value)
    assert "the data must hold the modelled genes: found" in str(caught.value)
    return str(caught.value)


def test_more_than_half_missing():
    message = mismatch(query([[1, 1, 1]], ["CD3E", "MS4A1", "NKG8"]))
    assert "found 2 of 6, not 'NKG7' for one" in message
    assert "Did you mean 'NKG8'?" in message


def test_other_ways_of_naming_are_recognised():
    row = [[1] * 6]
    lower = mismatch(query(row, [gene.capitalize() for gene in GENES]))
    assert "found 0 of 6" in lower
    assert "upper and lower case" in lower
    ids = [f"ENSG{i:011d}" for i in range(6)]
    assert "Set adata.var_names = adata.var['symbol']" in mismatch(query(row, ids, symbol=GENES))
    assert "The run uses gene symbols, the data Ensembl ids" in mismatch(query(row, ids))
    assert "The run uses Ensembl ids, the data gene symbols" in mismatch(query(row, GENES), ids)
    versions = [f"{name}.{i}" for i, name in enumerate(ids)]
    assert "version after the dot" in mismatch(query(row, versions), ids)
    assert "The data's first are 'x0'" in mismatch(query(row, [f"x{i}" for i in range(6)]))


def test_cells_without_a_modelled_count():
    adata = query([[1, 0, 5], [0, 0, 5], [0, 0, 5]], ["CD3E", "LYZ", "OTHER"])
    with pytest.raises(ValueError, match="found 2 cells without any, first 'cell1'. Drop these"):
        align(adata, ["CD3E", "LYZ"])


def test_ranking_genes_leaves_torch_its_threads():
    """numba, which scanpy runs, sets OpenMP's number for the whole process."""
    rng = np.random.default_rng(0)
    counts = sp.csr_array(rng.poisson(2.0, (60, 80)).astype(np.float32))
    torch.set_num_threads(1)
    choose_genes(counts, np.arange(60), n_top_genes=10)
    assert torch.get_num_threads() == 1
