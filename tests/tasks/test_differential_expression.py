"""Differential expression of a run: groups, replicates, refusals, scanpy's layout."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from typer.testing import CliRunner

import pgm_expr
from pgm_expr.cli.main import app
from pgm_expr.simulate import simulate


@pytest.fixture(scope="module")
def adata() -> AnnData:
    truth = simulate(400, 60, seed=0, types=2, conditions=2, null=0.5)
    obs = {
        "type": [f"t{i}" for i in truth.type],
        "condition": np.array(["ctrl", "stim"])[truth.condition],
        "donor": [f"d{i % 8}" for i in range(400)],
    }
    data = AnnData(truth.x.astype(np.float32), obs=obs)
    data.obs["arm"] = np.where(data.obs["donor"].isin(["d0", "d1", "d2", "d3"]), "a", "b")
    data.uns["change"] = truth.condition_effect[1] / np.log(2)
    return data


@pytest.fixture(scope="module")
def run(adata) -> pgm_expr.Run:
    small = dict(latent=3, hidden=32, epochs=200, progress=False)
    return pgm_expr.fit(adata, story="vae", **small)


def test_changes_between_conditions_are_found(run, adata):
    table = run.differential_expression(adata, "condition", "stim", "ctrl")
    change = dict(zip(adata.var_names, adata.uns["change"], strict=True))
    real = np.array([change[gene] for gene in table.index])
    called = table["called"].to_numpy()
    assert called.sum() >= 5 and (real[called] != 0).mean() > 0.8
    assert (np.sign(table["mean"])[called] == np.sign(real[called])).mean() > 0.9
    assert (table["low"] <= table["mean"]).all() and (table["lfsr"].diff().dropna() >= 0).all()
    assert table.attrs["pgm_expr"]["replicates"] == "cells"
    assert table["cells_1"].iloc[0] == (adata.obs["condition"] == "stim").sum()


def test_donors_in_both_groups_are_paired(run, adata):
    table = run.differential_expression(adata, "condition", "stim", "ctrl", replicate_key="donor")
    notes = table.attrs["pgm_expr"]
    assert notes["replicates"] == "8 against 8, paired" and "replicates" in notes["estimand"]
    change = dict(zip(adata.var_names, adata.uns["change"], strict=True))
    real = [change[gene] for gene in table.index]
    assert (table["replicates_1"] == 8).all() and np.corrcoef(table["raw"], real)[0, 1] > 0.8


def test_arms_of_donors_without_a_difference_have_no_calls(run, adata):
    table = run.differential_expression(adata, "arm", "a", "b", replicate_key="donor")
    assert table.attrs["pgm_expr"]["replicates"] == "4 against 4" and not table["called"].any()


def test_one_donor_a_group_is_no_evidence_about_donors(run, adata):
    some = adata[adata.obs["donor"].isin(["d0", "d4"])].copy()
    with pytest.raises(ValueError, match="1 and 1 replicates, two each are needed"):
        run.differential_expression(some, "arm", "a", "b", replicate_key="donor")
    table = run.differential_expression(some, "arm", "a", "b", replicate_key=None)
    assert "same donors" in table.attrs["pgm_expr"]["estimand"]


def test_the_donors_of_the_run_are_the_replicates(adata):
    small = dict(latent=3, hidden=32, epochs=200, progress=False)
    run = pgm_expr.fit(adata, donor_key="donor", **small)
    table = run.differential_expression(adata, "arm", "a", "b")
    assert table.attrs["pgm_expr"]["replicates"] == "4 against 4"


def test_all_groups_are_compared_with_the_rest_as_scanpy_reads_them(run, adata):
    table = run.differential_expression(adata, "type")
    assert set(table["group"]) == {"t0", "t1"} and len(table) == 2 * run.notes["genes"].__len__()
    key = "pgm_vae_differential_expression"
    frame = sc.get.rank_genes_groups_df(adata, "t1", key=key)
    ours = table[table["group"] == "t1"]
    assert frame["names"].tolist() == ours.index.tolist()
    assert np.allclose(frame["pvals_adj"], ours["svalue"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kind", "a", "b"), "'kind' is not a column of obs"),
        (("type", "b cell", "t0"), "no cell has type 'b cell'. Known: t0, t1"),
        (("type", "t0", "t0"), "groups must differ: got 't0' twice"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, adata, arguments, message):
    with pytest.raises(ValueError, match=message):
        run.differential_expression(adata, *arguments)


def test_few_cells_are_refused(run, adata):
    sides = (np.flatnonzero(adata.obs["type"] == level) for level in ("t0", "t1"))
    some = adata[np.concatenate([side[:n] for side, n in zip(sides, (20, 3), strict=True)])]
    with pytest.raises(ValueError, match="type 't1' has 3 cells, 5 are needed"):
        run.differential_expression(some.copy(), "type", "t0", "t1")


def test_state_fold_changes_make_no_calls(run, adata):
    table = run.state_fold_change(adata, "type", "t1", "t0", draws=10)
    assert list(table.columns) == ["mean", "sd", "low", "high"]
    with pytest.raises(ValueError, match="no cell has type"):
        run.state_fold_change(adata, "type", "t9", "t0")


def test_the_command_writes_a_table_and_says_what_it_is_about(run, adata, tmp_path):
    run.save(tmp_path / "run")
    data = adata.copy()
    data.uns = {}
    data.write_h5ad(tmp_path / "cells.h5ad")
    words = ["differential", tmp_path / "run", tmp_path / "cells.h5ad", "--groupby", "condition"]
    words += ["--group1", "stim", "--group2", "ctrl", "--out", tmp_path / "de.csv"]
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    assert "genes called at a false sign rate of 0.05; about cells like these" in done.output
    assert pd.read_csv(tmp_path / "de.csv", index_col=0).shape[0] == len(run.notes["genes"])
