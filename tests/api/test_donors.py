"""Donors: whole in the split, kept with the run, seen by no story."""

import numpy as np
import pytest

import pgm_expr
from pgm_expr import simulate
from pgm_expr.cli import main as cli
from pgm_expr.data import Donor

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
SIZES = dict(latent=2, hidden=8, epochs=2, progress=False)


@pytest.fixture(scope="module")
def adata():
    adata = simulate.simulate(120, 15, seed=1, types=2, median_library=300.0).to_anndata()
    adata.obs["donor"] = np.random.default_rng(1).choice(["d1", "d2", "d3", "d4", "d5"], 120)
    adata.obs["sample"] = adata.obs["donor"].astype(str) + "-s"
    return adata


def test_donors_are_whole_in_the_split_and_kept_with_the_run(adata, tmp_path):
    run = pgm_expr.fit(adata, donor_key="donor", out=tmp_path / "run", **SIZES)
    split, donors = run.table.split, adata.obs["donor"].to_numpy()
    parts = [set(donors[part]) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 5 and set.union(*parts) == set(donors)
    donor = pgm_expr.load(tmp_path / "run").encoding.get(Donor)
    assert donor.key == "donor" and donor.levels == ("d1", "d2", "d3", "d4", "d5")
    assert [donor.levels[code] for code in donor.groups(adata.obs)] == donors.tolist()


def test_no_story_sees_the_donor(adata):
    """The same split with the donors under another name gives the same weights."""
    one = pgm_expr.fit(adata, donor_key="donor", **SIZES)
    other = pgm_expr.fit(adata, donor_key="sample", **SIZES)
    assert "donor" not in one.table.cells.columns and "donors" not in one.notes["dims"]
    assert one.history[-1]["validation"] == other.history[-1]["validation"]


def test_split_key_is_its_alias(adata):
    splits = [
        pgm_expr.fit(adata, **{key: "donor"}, **SIZES).table.split.test.tolist()
        for key in ("donor_key", "split_key")
    ]
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (dict(donor_key="donor", split_key="sample"), "one column: got 'donor' and 'sample'"),
        (dict(donor_key="donnor"), "donor_key 'donnor' is not a column.*Did you mean 'donor'"),
    ],
)
def test_what_cannot_be_is_refused(adata, keys, words):
    with pytest.raises(ValueError, match=words):
        pgm_expr.fit(adata, **keys, **SIZES)


def test_a_cell_without_donor_is_named(adata):
    missing = adata.copy()
    missing.obs["donor"] = missing.obs["donor"].astype(object).where(np.arange(120) != 7)
    with pytest.raises(ValueError, match="must name a donor for each cell: found 1 missing"):
        pgm_expr.fit(missing, donor_key="donor", **SIZES)


def test_a_donor_cannot_be_set(adata):
    run = pgm_expr.fit(adata, donor_key="donor", **SIZES)
    with pytest.raises(ValueError, match="'donor' is the unit of replication"):
        run.sample(3, condition={"donor": "d1"})


def test_on_the_command_line(adata, tmp_path, capsys):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    line = f"fit {tmp_path}/cells.h5ad --out {tmp_path}/run --donor-key donor --epochs 1"
    with pytest.raises(SystemExit) as stop:
        cli.main([*line.split(), "--set", "latent=2", "--set", "hidden=8"])
    assert not stop.value.code
    assert pgm_expr.load(tmp_path / "run").encoding.get(Donor).key == "donor"
    with pytest.raises(SystemExit) as stop:
        cli.main([*line.replace("run", "other").split(), "--split-key", "sample"])
    assert stop.value.code == 2
    assert "--donor-key and --split-key must name one column" in capsys.readouterr().err
