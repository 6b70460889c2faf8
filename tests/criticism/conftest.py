"""One fitted run of simulated cells, criticised once by the command line."""

import contextlib
import io
import json
import warnings

import numpy as np
import pytest

import pgm_expr
from pgm_expr import simulate
from pgm_expr.cli import main as cli


@pytest.fixture(autouse=True)
def plain_warnings(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="session")
def adata():
    truth = simulate.simulate(510, 60, seed=0, types=3, batches=2, median_library=3000.0)
    adata = truth.to_anndata()
    adata.obs["age"] = np.random.default_rng(1).normal(50, 10, adata.n_obs)
    return adata


@pytest.fixture(scope="session")
def folder(adata, tmp_path_factory):
    place = tmp_path_factory.mktemp("criticism")
    adata.write_h5ad(place / "cells.h5ad")
    keys = dict(labels_key="type", batch_key="batch", continuous_covariate_keys=["age"])
    sizes = dict(latent=3, hidden=16, epochs=60, progress=False)
    pgm_expr.fit(place / "cells.h5ad", out=place / "run", **sizes, **keys)
    return place


@pytest.fixture(scope="session")
def printed(folder):
    """What the command prints; its findings are in the folders from then on."""
    given = "criticize", folder / "run", "--draws", 200, "--json", folder / "figures.json"
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as stop:
            cli.main([str(each) for each in given])
    assert not stop.value.code
    return out.getvalue()


@pytest.fixture(scope="session")
def found(folder, printed):
    return json.loads((folder / "run" / "criticism.json").read_text())
