"""predict, sample and express as a user types them, and what a story that lacks its data says."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest

import pgm_expr
from pgm_expr.cli import main as cli

pytestmark = [
    pytest.mark.filterwarnings("ignore:posterior collapse"),  # a few epochs
    pytest.mark.filterwarnings("always:.*learnt from"),  # 150 cells in all
]

RUNS = ["cvae", "label", "classify", "regress", "shift", "hierarchical", "vae"]


@pytest.fixture(autouse=True)
def plain_warnings(monkeypatch):
    """`main` shows warnings as one line each; give pytest its own back afterwards."""
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def command(capsys):
    """Run a command: (exit code, stdout, stderr)."""

    def type_in(line):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        return stop.value.code or 0, *capsys.readouterr()

    return type_in


@pytest.fixture(scope="module")
def place(fitted, tmp_path_factory):
    """A folder with `cells.h5ad`, `sets.gmt` and a finished run of each story in `RUNS`."""
    place = tmp_path_factory.mktemp("conditions")
    shutil.copy(fitted.data("cvae"), place / "cells.h5ad")
    (place / "sets.gmt").write_text("one\tabout\tgene0\tgene1\tgene2\n")
    for story in RUNS:
        shutil.copytree(fitted.folder(story), place / story)
    return place


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def read(path):
    return anndata.read_h5ad(path)


def test_predict_writes_probabilities_as_a_table_and_in_obs(here, command, tmp_path):
    code, printed, _ = command(f"predict label cells.h5ad --out {tmp_path}/p.csv")
    table = pd.read_csv(tmp_path / "p.csv", index_col="cell")
    assert code == 0 and list(table) == ["type0", "type1"]
    assert np.allclose(table.sum(axis=1), 1, atol=1e-5)
    likeliest = table.idxmax(axis=1)
    for name, count in likeliest.value_counts().items():
        assert f"{name} {count}" in printed
    assert command(f"predict label cells.h5ad --out {tmp_path}/p.h5ad")[0] == 0
    after = read(tmp_path / "p.h5ad")
    assert (after.obs["pgm_label_label"].astype(str) == likeliest).all()
    assert after.shape == (150, 30) and "pgm_label_probability" in after.obs


def test_predict_says_all_that_the_run_can(here, command, tmp_path):
    code, printed, _ = command(f"predict regress cells.h5ad --out {tmp_path}/p.csv")
    table = pd.read_csv(tmp_path / "p.csv", index_col="cell")
    assert code == 0 and list(table) == ["type0", "type1", "mean", "sd"]
    assert "150 cells; likeliest label" in printed and "median sd" in printed
    run = pgm_expr.load("regress")
    assert np.allclose(table["mean"], run.predict_target("cells.h5ad")["mean"], rtol=1e-4)


def test_sample_draws_what_python_draws(here, command, tmp_path):
    line = (
        f"sample cvae --n 60 --condition type=type1 --condition plate=2 --seed 3 --out {tmp_path}"
    )
    code, printed, err = command(f"{line}/s.h5ad")
    drawn, run = read(tmp_path / "s.h5ad"), pgm_expr.load("cvae")
    few = drawn.uns["pgm_cvae"]["support"]["training_cells"]
    assert f"Support of type=type1, plate=2: {few} training cells." in printed and 0 < few < 50
    (warning,) = err.strip().splitlines()
    assert warning.startswith("warning: type=type1, plate=2: learnt from ") and str(few) in warning
    expected = run.sample(60, condition={"type": "type1", "plate": 2}, seed=3)
    assert code == 0 and "60 drawn cells x 30 genes with type=type1, plate=2" in printed
    assert (drawn.X != expected.X).nnz == 0 and set(drawn.obs["type"]) == {"type1"}


def test_text_is_a_number_where_the_fit_knows_one(here):
    """dose=80 as text and as a number; plate, 1 and 2 in obs, is categorical either way."""
    run = pgm_expr.load("cvae")
    text, number, other = (
        run.sample(50, condition={"dose": dose}).X.toarray() for dose in ("80", 80, 20.0)
    )
    assert np.array_equal(text, number) and not np.array_equal(text, other)
    first, second = (run.sample(50, condition={"plate": p}).X.toarray() for p in ("2", 2))
    assert np.array_equal(first, second)


def test_express_writes_a_layer_in_the_genes_of_the_run(here, command, tmp_path):
    line = f"express cvae cells.h5ad --condition plate=1 --library 500 --out {tmp_path}/e.h5ad"
    code, printed, err = command(line)
    assert code == 0, err
    found = read(tmp_path / "e.h5ad")
    assert "layers['pgm_cvae'], 150 cells x 30 genes with plate=1" in printed
    assert "Support of plate=1: " in printed and len(printed.strip().splitlines()) == 1
    assert float(found.uns["pgm_cvae"]["support"]["share"]) == 1.0
    run = pgm_expr.load("cvae")
    expected = run.normalized_expression("cells.h5ad", condition={"plate": "1"}, library=500.0)
    assert np.allclose(found.layers["pgm_cvae"], expected, rtol=1e-4)
    assert np.allclose(found.layers["pgm_cvae"].sum(1), 500, rtol=1e-3)
    assert (found.X != read("cells.h5ad").X).nnz == 0 and "type" in found.obs


@pytest.mark.filterwarnings("always:.*modelled genes are not in the data")
def test_express_fills_the_genes_that_data_lack(here, command, tmp_path):
    few = read("cells.h5ad")[:, [*range(29, 4, -1)]].copy()
    few.write_h5ad(tmp_path / "few.h5ad")
    code, _, err = command(f"express cvae {tmp_path}/few.h5ad --out {tmp_path}/e.h5ad")
    found = read(tmp_path / "e.h5ad")
    assert code == 0 and "5 of the 30 modelled genes" in err and found.n_vars == 30
    assert not found[:, "gene0"].X.nnz and (found[:, "gene0"].layers["pgm_cvae"] > 0).all()


REFUSED = {
    "predict cvae cells.h5ad --out x.csv": ["--labels-key", "--target-key"],
    "predict label cells.h5ad --out x.tsv": [".csv or .h5ad"],
    "predict label cells.h5ad --out no/x.csv": ["no folder"],
    "sample cvae --condition plate=3 --out x.h5ad": ["'3'", "'plate'", "'1', '2'"],
    "sample cvae --condition dose=high --out x.h5ad": ["'dose' is numeric", "'high'"],
    "sample cvae --condition dose=nan --out x.h5ad": ["'dose' is numeric"],
    "sample cvae --condition plat=1 --out x.h5ad": ["'plat'", "Did you mean 'plate'"],
    "sample cvae --condition plate --out x.h5ad": ["--condition plate", "batch=b1"],
    "sample cvae --condition plate=1 --condition plate=2 --out x.h5ad": ["twice"],
    "sample cvae --out x.csv": [".h5ad"],
    "sample cvae --n 0 --out x.h5ad": ["--n"],
    "sample vae --condition batch=batch1 --out x.h5ad": ["do not depend on 'batch'"],
    "sample classify --condition type=type1 --out x.h5ad": ["do not depend on 'type'"],
    "sample regress --condition dose=1 --out x.h5ad": ["is the target of the fit"],
    "sample shift --condition perturbation=p0+p7 --out x.h5ad": ["'p7'", "'p0', 'p1'"],
    "express label cells.h5ad --condition type=type1 --out x.h5ad": ["once the state", "cvae"],
    "express hierarchical cells.h5ad --condition plate=1 --out x.h5ad": ["'plate'", "state"],
    "express cvae cells.h5ad --library 0 --out x.h5ad": ["library", "above 0"],
    "express cvae cells.h5ad --condition type=typ1 --out x.h5ad": ["'type1'"],
    "fit cells.h5ad --story label --out x": ["--labels-key"],
    "fit cells.h5ad --story classify --out x": ["--labels-key"],
    "fit cells.h5ad --story hierarchical --out x": ["--labels-key"],
    "fit cells.h5ad --story cvae --out x": ["--batch-key", "--categorical", "--continuous"],
    "fit cells.h5ad --story conditional_prior --out x": ["--batch-key"],
    "fit cells.h5ad --story shift --out x": ["--perturbation-key"],
    "fit cells.h5ad --story ladder --out x": ["--gene-sets"],
    "fit cells.h5ad --story regress --out x": ["--target-key"],
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_is_one_line_and_nothing_is_written(line, here, command):
    before = sorted(here.rglob("*"))
    code, printed, err = command(line)
    (error,) = err.strip().splitlines()
    assert code == 2 and not printed and error.startswith("error:")
    assert all(word in error for word in REFUSED[line]), error
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("story", ["regress", "shift", "hierarchical", "vae"])
def test_every_kind_of_story_can_be_drawn(story, here, command, tmp_path):
    code, _, err = command(f"sample {story} --n 7 --out {tmp_path}/s.h5ad")
    assert code == 0, err
    assert read(tmp_path / "s.h5ad").shape == (7, 30)


TOLD = {
    "cvae": "--batch-key plate --categorical type --continuous dose",
    "conditional_prior": "--batch-key plate",
    "label": "--labels-key type --batch-key plate",
    "classify": "--labels-key type",
    "regress": "--target-key dose --labels-key type",
    "shift": "--perturbation-key perturbation --control control",
    "hierarchical": "--labels-key type --batch-key plate",
    "ladder": "--gene-sets sets.gmt",
    "offset": "--categorical type",
}


@pytest.mark.parametrize("story", pgm_expr.api.STORIES)
def test_a_new_file_of_each_story_is_fitted(story, here, command, tmp_path):
    assert command(f"new {tmp_path}/mine.py --from {story}")[0] == 0
    line = f"fit cells.h5ad --story {tmp_path}/mine.py --out {tmp_path}/run --epochs 1"
    code, printed, err = command(f"{line} {TOLD.get(story, '')}")
    assert code == 0 and "Story mine on 150 cells" in printed, err
    code, _, err = command(
        f"sample {tmp_path}/run --story {tmp_path}/mine.py --out {tmp_path}/s.h5ad"
    )
    assert code == 0, err
