"""The command line in one process: what a user types, reads, and finds on disk afterwards."""

import hashlib
import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pgm_expr import simulate
from pgm_expr.cli import main as cli

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # 25 epochs are few


@pytest.fixture(autouse=True)
def plain_warnings(monkeypatch):
    """`main` shows warnings as one line each; give pytest its own back afterwards."""
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def run(capsys):
    """Run a command: (exit code, stdout, stderr)."""

    def type_in(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in arguments])
        return stop.value.code or 0, *capsys.readouterr()

    return type_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small data set `cells.h5ad` and a finished run of it, `run`."""
    place = tmp_path_factory.mktemp("cli")
    truth = simulate.simulate(120, 40, seed=0, types=3, batches=2, median_library=5000.0)
    truth.to_anndata().write_h5ad(place / "cells.h5ad")
    line = f"fit {place}/cells.h5ad --out {place}/run --labels-key type --epochs 25"
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    assert not stop.value.code
    return place


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def spoil(folder, name, change):
    """A copy of the data set with one thing wrong."""
    adata = anndata.read_h5ad(folder / "cells.h5ad")
    adata.X = sp.csr_matrix(adata.X.toarray().astype(np.float32))
    adata = change(adata) or adata
    adata.write_h5ad(folder / name)
    return folder / name


def set_entry(value):
    def change(adata):
        dense = adata.X.toarray()
        dense[3, 5] = value
        adata.X = sp.csr_matrix(dense)

    return change


def keep_counts_in_a_layer(adata):
    adata.layers["umi"] = adata.X.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))


def empty_a_cell(adata):
    dense = adata.X.toarray()
    dense[7] = 0
    adata.X = sp.csr_matrix(dense)


def repeat_a_gene(adata):
    adata.var_names = ["gene0", "gene0", *adata.var_names[2:]]


def repeat_a_cell(adata):
    adata.obs_names = ["cell0", "cell0", *adata.obs_names[2:]]


def lose_a_batch(adata):
    adata.obs["batch"] = adata.obs["batch"].astype(object).where(adata.obs_names != "cell4")


SPOILED = {
    "negative": (set_entry(-1.0), [], ["-1.0", "cell3", "gene5"]),
    "nan": (set_entry(np.nan), [], ["nan"]),
    "infinite": (set_entry(np.inf), [], ["inf"]),
    "fractional": (set_entry(0.37), [], ["0.37"]),
    "logged": (keep_counts_in_a_layer, [], ["umi"]),
    "empty-cell": (empty_a_cell, [], ["cell7"]),
    "same-gene": (repeat_a_gene, [], ["gene0", "unique"]),
    "same-cell": (repeat_a_cell, [], ["cell0", "unique"]),
    "few-cells": (lambda adata: adata[:5].copy(), [], ["cells"]),
    "missing-batch": (lose_a_batch, ["--batch-key", "batch"], ["batch", "missing"]),
}


@pytest.mark.filterwarnings("ignore:.*are not unique")
@pytest.mark.parametrize("kind", SPOILED)
def test_bad_counts_are_one_line_and_the_run_stays(folder, run, kind):
    change, options, words = SPOILED[kind]
    before = digest(folder / "run")
    bad = spoil(folder, f"{kind}.h5ad", change)
    code, _, err = run("fit", bad, "--out", folder / "run", "--overwrite", *options)
    one_line(code, err, words)
    assert digest(folder / "run") == before


TYPED = {
    "unknown-label": ("fit {d} --out {n} --labels-key typ", ["typ", "type"]),
    "unknown-batch": ("fit {d} --out {n} --batch-key plate", ["plate", "batch"]),
    "unknown-layer": ("fit {d} --out {n} --layer counts", ["counts"]),
    "unknown-split-key": ("fit {d} --out {n} --split-key donor", ["donor"]),
    "unknown-perturbation": ("fit {d} --out {n} --perturbation-key perturb", ["perturbation"]),
    "unknown-control": (
        "fit {d} --out {n} --perturbation-key type --control typ0",
        ["typ0", "type0"],
    ),
    "control-alone": ("fit {d} --out {n} --control type0", ["--perturbation-key"]),
    "word-target": ("fit {d} --out {n} --target-key type", ["type", "numeric"]),
    "no-gene-sets": ("fit {d} --out {n} --gene-sets {f}/none.gmt", ["none.gmt"]),
    "unknown-story": ("fit {d} --out {n} --story vea", ["vea", "vae"]),
    "unknown-objective": ("fit {d} --out {n} --objective iwea-5", ["iwea", "iwae"]),
    "unknown-option": ("fit {d} --out {n} --set latnt=5", ["latnt", "latent"]),
    "unknown-part": ("fit {d} --out {n} --set likelihood=znb", ["znb", "zinb"]),
    "bad-option": ("fit {d} --out {n} --set latent=2.5", ["latent", "2.5"]),
    "bad-plan": ("fit {d} --out {n} --set learning_rate=-1", ["learning_rate", "-1"]),
    "refused-pair": ("fit {d} --out {n} --objective iwae-5 --set free_bits=0.1", ["iwae", "KL"]),
    "bad-set": ("fit {d} --out {n} --set latent", ["NAME=VALUE"]),
    "bad-device": ("fit {d} --out {n} --device gpu9", ["gpu9", "cpu"]),
    "bad-number": ("fit {d} --out {n} --epochs many", ["--epochs"]),
    "no-epochs": ("fit {d} --out {n} --epochs -1", ["--epochs"]),
    "missing-file": ("fit {f}/none.h5ad --out {n}", ["none.h5ad"]),
    "unknown-name": ("fit pbmc68k_reducd --out {n}", ["pbmc68k_reduced"]),
    "finished-run": ("fit {d} --out {f}/run", ["--overwrite"]),
    "out-is-a-file": ("fit {d} --out {d}", ["cells.h5ad"]),
    "out-is-taken": ("fit {d} --out {f}", ["other files"]),
    "no-run": ("evaluate {f}", ["story.json"]),
    "other-data": ("embed {f}/run pbmc68k_reduced --out {f}/e.h5ad", ["gene"]),
    "out-suffix": ("embed {f}/run {d} --out {f}/e.csv", [".h5ad"]),
    "json-folder": ("evaluate {f}/run --json {f}/no/m.json", ["no"]),
    "unknown-command": ("fti {d}", ["fti"]),
    "missing-option": ("fit {d}", ["--out"]),
    "unknown-page": ("zoo --show vea", ["vae"]),
}


@pytest.mark.parametrize("kind", TYPED)
def test_bad_commands_are_one_line_and_the_run_stays(folder, run, kind):
    before = digest(folder / "run")
    line, words = TYPED[kind]
    places = {"d": folder / "cells.h5ad", "f": folder, "n": folder / "new"}
    code, _, err = run(*line.format(**places).split())
    one_line(code, err, words)
    assert digest(folder / "run") == before and not (folder / "new").exists()


@pytest.mark.parametrize("content", [b"", b"gene,cell\n", b"\x89HDF\r\n\x1a\n" + bytes(64)])
def test_foreign_files_are_one_line(folder, run, content):
    (folder / "foreign.h5ad").write_bytes(content)
    code, _, err = run("data", folder / "foreign.h5ad")
    one_line(code, err, ["foreign.h5ad"])


def test_truncated_model_is_one_line(folder, run, tmp_path):
    whole = (folder / "run" / "model.safetensors").read_bytes()
    for path in (folder / "run").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    code, _, err = run("evaluate", tmp_path)
    one_line(code, err, ["model.safetensors"])


def one_line(code, err, words):
    errors = [line for line in err.strip().splitlines() if line.startswith("error:")]
    assert code == 2 and len(errors) == 1 and err.strip().splitlines()[-1] == errors[0], err
    assert "Traceback" not in err
    assert all(word in errors[0] for word in words), errors[0]


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="vea"):
        cli.main(["fit", str(folder / "cells.h5ad"), "--out", "x", "--story", "vea", "--debug"])


def test_fit_leaves_a_whole_run(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"story.json", "model.safetensors", "history.csv"} <= names
    assert "checkpoint.safetensors" not in names
    story = json.loads((folder / "run" / "story.json").read_text())
    assert story["story"] == "vae" and story["dims"] == {"genes": 40, "labels": 3}
    assert len(pd.read_csv(folder / "run" / "history.csv")) == 25


def test_evaluate_writes_the_figures_it_prints(folder, run, tmp_path):
    code, out, _ = run("evaluate", folder / "run", "--json", tmp_path / "m.json")
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert f"{metrics['heldout_iwae']:.2f}" in out
    assert code == (1 if metrics["collapse"] else 0)
    assert json.loads((folder / "run" / "metrics.json").read_text()) == metrics


def test_embed_keeps_the_data_and_adds_the_latent(folder, run, tmp_path):
    code, _, _ = run("embed", folder / "run", folder / "cells.h5ad", "--out", tmp_path / "e.h5ad")
    before, after = (anndata.read_h5ad(p) for p in (folder / "cells.h5ad", tmp_path / "e.h5ad"))
    assert code == 0 and after.obsm["X_pgm_vae"].shape == (120, 10)
    assert (before.X != after.X).nnz == 0 and list(before.obs) == list(after.obs)


def test_fit_and_compare_take_perturbations_target_and_gene_sets(folder, run, tmp_path):
    (tmp_path / "sets.gmt").write_text("one\tabout\tgene0\tgene1\tgene2\n")
    told = "--perturbation-key type --control type0 --target-key time"
    told += f" --gene-sets {tmp_path}/sets.gmt"
    timed = spoil(folder, "timed.h5ad", lambda a: a.obs.__setitem__("time", np.arange(120.0)))
    code, _, err = run(*f"fit {timed} --out {tmp_path}/run --epochs 1 {told}".split())
    notes = json.loads((tmp_path / "run" / "story.json").read_text())
    assert code == 0 and notes["gene_sets"] == {"one": ["gene0", "gene1", "gene2"]}, err
    assert notes["dims"] == {"genes": 40, "perturbations": 2}
    fields = {field["kind"]: field for field in notes["encoding"]["fields"]}
    assert fields["perturbation"]["levels"] == ["type1", "type2"] and fields["target"]["sd"] > 0
    line = f"compare {timed} --out {tmp_path}/c --splits 1 --epochs 1 --draws 2 {told}"
    assert run(*line.split())[0] == 0
    code, _, err = run(*line.replace("--control type0", "").split())
    assert code == 2 and "other settings (columns)" in err


def test_zoo_lists_and_shows(run):
    assert "mean-field" in run("zoo")[1]
    page = run("zoo", "--show", "vae")[1]
    assert "class VAE(" in page and "class VAEGuide(" in page


def test_data_says_what_is_there(folder, run):
    out = run("data", folder / "cells.h5ad")[1]
    assert "120 cells x 40 genes" in out and "counts" in out and "type" in out


def test_compare_prints_a_ranking_and_a_verdict(run, folder, tmp_path):
    line = (
        f"compare {folder}/cells.h5ad --out {tmp_path}/c --likelihoods nb,zinb,gaussian "
        "--objectives trace,mean-field --priors normal,mog --betas 1 --splits 2 --epochs 2 "
        "--draws 5 --labels-key type --set hidden=8 --set components=3"
    )
    code, printed, _ = run(*line.split())
    assert code == 0
    words_of_page = ("log p of counts given library", "diff", "se", "Best", "Use NB", "2 splits")
    for words in words_of_page:
        assert words in printed
    assert "refused: gaussian takes values, these data are counts" in printed
    assert "mean-field does not go with prior=mog" in printed
    assert (tmp_path / "c" / "comparison.csv").exists()


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("--betas one", "--betas one: expected numbers"),
        ("--likelihoods znb", "Did you mean 'zinb'?"),
        ("--objectives renyi-1", "alpha"),
        ("--stories nowhere.py", "nowhere.py"),
        ("--set latnet=4", "unknown option 'latnet'"),
        ("--stories vae,vae", "different names"),
    ],
)
def test_compare_refuses_in_one_line_before_it_writes(run, folder, tmp_path, wrong, words):
    arguments = f"compare {folder}/cells.h5ad --out {tmp_path}/c {wrong}".split()
    code, printed, error = run(*arguments)
    assert code == 2 and words in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists() and not printed


def test_evaluate_tells_the_amortisation_gap(run, folder):
    code, printed, _ = run("evaluate", folder / "run", "--refine", 5)
    assert code in (0, 1) and "Amortisation gap: 5 steps" in printed
