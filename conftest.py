"""One thread for all tests, and what the examples of user verbs start from."""

import os
from pathlib import Path

# On small arrays the threads of BLAS and OpenMP wait for each other: tests of logistic regressions
# cost fifteen times as much. This is for what is imported, or started, from here on.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pyro
import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """And for libraries that were imported before."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def empty_store():
    """Pyro keeps parameters by name: those of the test before would be this one's."""
    pyro.clear_param_store()


@pytest.fixture(scope="session")
def fitted_example(tmp_path_factory):
    """Cells with labels, ages and donors, and a run of the story `vae` on them, in a folder."""
    import pgm_expr
    from pgm_expr.simulate import simulate

    adata = simulate(120, 12, seed=0, types=2, median_library=200.0).to_anndata()
    noise = np.random.default_rng(0)
    adata.obs["cell_type"] = np.where(adata.obs["type"] == adata.obs["type"].iloc[0], "a", "b")
    adata.obs["age"] = noise.normal(50.0, 10.0, adata.n_obs)
    adata.obs["donor"] = noise.choice(["d1", "d2", "d3", "d4"], adata.n_obs)
    path = tmp_path_factory.mktemp("example")
    adata.write_h5ad(path / "cells.h5ad")
    pgm_expr.fit(
        path / "cells.h5ad",
        labels_key="cell_type",
        latent=2,
        hidden=8,
        epochs=400,
        out=path / "run",
        progress=False,
    )
    return adata, path / "run"


def pytest_collection_modifyitems(items):
    """A fit of a few epochs is an example of the call, not of a good fit."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.filterwarnings("ignore:posterior collapse"))


VERBS = {"api", "runs", "tasks", "criticism", "comparison"}


@pytest.fixture(autouse=True)
def example_names(request, doctest_namespace):
    """`adata`, `run`, `folder`, `pgm_expr` in the examples of those layers."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    parts = Path(request.node.path).with_suffix("").parts
    if VERBS & set(parts[parts.index("pgm_expr") :]):
        import pgm_expr

        adata, folder = request.getfixturevalue("fitted_example")
        doctest_namespace |= {
            "pgm_expr": pgm_expr,
            "adata": adata.copy(),
            "folder": folder,
            "run": pgm_expr.load(folder),
        }
