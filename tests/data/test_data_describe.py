"""The page that says what an AnnData holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from pgm_expr.data import describe

COUNTS = np.random.default_rng(0).poisson(0.7, (20, 9))
COUNTS[:, 0] += 1  # no empty cell
CELLS = [f"cell{i}" for i in range(20)]
GENES = [f"gene{i}" for i in range(9)]
LOG = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4)


def table(x=COUNTS, **layers):
    adata = AnnData(x, obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
    adata.layers.update(layers)
    return adata


def test_description_by_numbers():
    adata = table(log=LOG)
    adata.raw = adata[:, :5]
    adata.obs["kind"] = pd.Categorical(["a"] * 12 + ["b"] * 7 + [None], ["a", "b", "unused"])
    adata.obs["age"] = [np.nan, *range(19)]
    description = describe(adata)
    x = description.matrices["X"]
    assert list(description.matrices) == ["X", "raw", "log"]
    assert (x.minimum, x.maximum, x.shape) == (COUNTS.min(), COUNTS.max(), (20, 9))
    assert x.zero_fraction == pytest.approx((COUNTS == 0).mean())
    assert x.median_library == np.median(COUNTS.sum(1))
    assert description.matrices["raw"].shape == (20, 5)
    kind, age = description.columns
    assert (kind.levels, kind.missing, kind.detail) == (2, 1, "a (12), b (7)")
    assert (age.numeric, age.missing, age.detail) == (True, 1, "0 to 18")


def test_description_as_a_page():
    adata = table(sp.csr_matrix(COUNTS), log=np.full((20, 9), np.inf))
    adata.obs["many"] = CELLS
    page = str(describe(adata))
    assert page.startswith("20 cells x 9 genes")
    assert "X     counts, 20 x 9, from 0 to" in page
    assert "log   non-finite" in page
    first = ", ".join(f"cell{i} (1)" for i in range(6))
    assert page.endswith(f"many  20 levels, 0 missing: {first}, ...")


def test_description_of_an_empty_table():
    empty = AnnData(obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
    assert describe(empty).matrices == {}
    assert "obs columns: none" in str(describe(empty))


def test_description_of_an_all_nan_matrix_raises_no_warning():
    assert describe(table(np.full((20, 9), np.nan))).matrices["X"].kind == "non-finite"
