"""The folder of a run: who may write there, what a crash leaves, what loading trusts."""

import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

import pgm_expr
from pgm_expr import Story, simulate
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import MeanField, load_tensors
from pgm_expr.models import VAE
from pgm_expr.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of few epochs

SMALL = dict(latent=2, hidden=8, epochs=6, labels_key="type", progress=False)
FINISHED = {"story.json", "model.safetensors", "history.csv"}


@pytest.fixture(scope="module")
def adata():
    truth = simulate.simulate(90, 20, seed=0, types=2, batches=2, median_library=300.0)
    return truth.to_anndata()


@pytest.fixture(scope="module")
def finished(adata, tmp_path_factory):
    place = tmp_path_factory.mktemp("folder")
    adata.write_h5ad(place / "cells.h5ad")
    return pgm_expr.fit(place / "cells.h5ad", out=place / "run", **SMALL), place / "run"


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished[1], tmp_path / "run")


def fit(data, out, **options):
    return pgm_expr.fit(data, out=out, **SMALL | options)


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def killed(adata, tmp_path_factory):
    """A folder whose run was killed after four epochs of six, as its fifth checkpoint was due."""
    folder, replace, written = tmp_path_factory.mktemp("killed") / "run", os.replace, []

    def die_at_the_fifth(source, target):
        written.append(os.path.basename(target))
        if written.count("checkpoint.safetensors") == 5:
            raise KeyboardInterrupt
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", die_at_the_fifth)
        fit(adata, folder, checkpoint_seconds=0.0)
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of the killed run."""
    return shutil.copytree(killed, tmp_path / "killed")


def test_a_finished_run_is_whole(finished):
    run, folder = finished
    assert {path.name for path in folder.iterdir()} == FINISHED
    notes = json.loads((folder / "story.json").read_text())
    assert notes == json.loads(json.dumps(run.notes))
    assert (notes["story"], notes["options"]) == ("vae", {"latent": 2, "hidden": 8})
    assert notes["dims"] == {"genes": 20, "labels": 2}
    assert notes["genes"] == [f"gene{g}" for g in range(20)]
    assert notes["cells"] == {"train": 65, "validation": 7, "test": 18}
    assert notes["format"] == 1
    assert [(f["kind"], f["levels"]) for f in notes["encoding"]["fields"]] == [
        ("label", ["type0", "type1"])
    ]
    assert notes["plan"]["epochs"] == 6 and notes["source"]["split_seed"] == 0
    assert notes["versions"].keys() >= {"pgm-expr", "python", "torch", "pyro-ppl"}
    tensors, _ = load_tensors(folder / "model.safetensors")
    assert {name.split("/")[0] for name in tensors} == {"model", "guide"}


def strings(value):
    """Every text in a JSON value, keys included."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return (
        [value]
        if isinstance(value, str)
        else [
            text for part in (value if isinstance(value, list) else []) for text in strings(part)
        ]
    )


def test_the_notes_hold_no_path_but_that_of_the_data(finished):
    folder = finished[1]
    texts = strings(json.loads((folder / "story.json").read_text()))
    assert [text for text in texts if os.sep in text] == [str(folder.parent / "cells.h5ad")]
    whole = b"".join((folder / name).read_bytes() for name in FINISHED - {"story.json"})
    for secret in (os.path.expanduser("~"), str(folder), os.uname().nodename):
        assert secret.encode() not in whole and not any(secret == text for text in texts)


def test_loaded_is_fitted(finished, adata):
    run, folder = finished
    again = pgm_expr.load(folder)
    assert np.array_equal(again.embed(adata.copy()), run.embed(adata.copy()))
    assert again.history == run.history and again.notes == json.loads(json.dumps(run.notes))
    assert not again.model.training and not again.guide.training
    metrics = run.evaluate()
    assert again.evaluate() == metrics and run.evaluate() == metrics


def test_saved_again_is_the_same(finished, tmp_path):
    pgm_expr.load(finished[1]).save(tmp_path / "copy")
    assert digest(tmp_path / "copy") == digest(finished[1])


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["pickle", "torch", "empty", "truncated"])
def test_loading_executes_nothing(folder, tmp_path, kind):
    model, trap = folder / "model.safetensors", tmp_path / "executed"
    whole = model.read_bytes()
    if kind == "torch":
        torch.save({"w": Planted(trap)}, model)
    else:
        model.write_bytes(
            {"pickle": pickle.dumps(Planted(trap)), "empty": b"", "truncated": whole[:-9]}[kind]
        )
    with pytest.raises(ValueError, match="model.safetensors' is not a whole safetensors file"):
        pgm_expr.load(folder)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Planted(trap))).close()
    assert trap.exists()  # the trap works


def test_weights_of_another_size_are_refused(folder, adata, tmp_path):
    fit(adata, tmp_path / "other", latent=3)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ValueError, match="model.safetensors"):
        pgm_expr.load(folder)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_no_run_is_said_in_one_line(folder, content):
    (folder / "story.json").unlink()
    if content is not None:
        (folder / "story.json").write_text(content)
    with pytest.raises(ValueError, match="is not a run of pgm_expr") as caught:
        pgm_expr.load(folder)
    assert "\n" not in str(caught.value)


def test_a_finished_run_is_kept_unless_overwritten(finished, folder, adata):
    (folder / "metrics.json").write_text("{}")
    before = digest(folder)
    with pytest.raises(ValueError, match="finished run.*overwrite"):
        fit(adata, folder)
    assert digest(folder) == before
    run = fit(adata, folder, seed=1, overwrite=True)
    assert {path.name for path in folder.iterdir()} == FINISHED
    assert digest(folder)["model.safetensors"] != before["model.safetensors"]
    assert pgm_expr.load(folder).notes["plan"]["seed"] == 1 == run.notes["plan"]["seed"]


def test_other_peoples_files_stay(adata, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, words in ((tmp_path, "other files"), (tmp_path / "file", "is a file")):
        with pytest.raises(ValueError, match=words):
            fit(adata, place, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "file"}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("wrong", ["negative", "empty cell", "no such label", "untrainable"])
def test_bad_data_leave_a_run_as_it_was(folder, adata, overwrite, wrong):
    bad, before, options = adata.copy(), digest(folder), {}
    if wrong in ("negative", "empty cell"):
        dense = bad.X.toarray()
        dense[3] = -1 if wrong == "negative" else 0
        bad.X = csr_matrix(dense)
    elif wrong == "no such label":
        options = {"labels_key": "kind"}
    else:
        options = {"story": Story(model=VAE, guide=Wrong)}
    with pytest.raises(ValueError):
        fit(bad, folder, overwrite=overwrite, **options)
    assert digest(folder) == before


class Wrong(VAEGuide):
    """Does not draw the site of the model."""

    def forward(self, library, x=None):
        pass


def test_a_killed_run_resumes_to_the_bit(unfinished, adata, tmp_path):
    assert {path.name for path in unfinished.iterdir()} == {"story.json", "checkpoint.safetensors"}
    with pytest.raises(ValueError, match="unfinished run"):
        pgm_expr.load(unfinished)
    resumed, whole = fit(adata, unfinished), fit(adata, tmp_path / "whole")
    same = [digest(place)["model.safetensors"] for place in (unfinished, tmp_path / "whole")]
    assert same[0] == same[1] and {path.name for path in unfinished.iterdir()} == FINISHED
    for column in ("epoch", "train", "validation", "beta"):
        assert [r[column] for r in resumed.history] == [r[column] for r in whole.history]
    assert pgm_expr.load(unfinished).history == resumed.history


def test_resuming_repeats_no_epoch(unfinished, adata):
    """Four were saved, whose rows stay with the seconds that they took; two are added."""
    _, notes = load_tensors(unfinished / "checkpoint.safetensors")
    resumed = fit(adata, unfinished, checkpoint_seconds=99.0)
    assert len(notes["history"]) == 4 and resumed.history[:4] == notes["history"]
    assert [row["epoch"] for row in resumed.history] == [*range(6)]


@pytest.mark.parametrize(
    "changed, named",
    [
        (dict(seed=1), "plan"),
        (dict(latent=3), "options"),
        (dict(split_seed=1), "source"),
        (dict(objective="trace"), "objective"),
        (dict(labels_key="batch"), "encoding"),
        (dict(min_cells=50), "genes"),
    ],
    ids=str,
)
def test_other_settings_do_not_resume(unfinished, adata, changed, named):
    before = digest(unfinished)
    with pytest.raises(ValueError, match=rf"unfinished run of other settings \(.*{named}"):
        fit(adata, unfinished, **changed)
    assert digest(unfinished) == before


def test_other_versions_do_resume(unfinished, adata):
    notes = json.loads((unfinished / "story.json").read_text())
    notes["versions"]["torch"] = "1.0"
    (unfinished / "story.json").write_text(json.dumps(notes))
    assert len(fit(adata, unfinished).history) == 6


def test_overwriting_starts_an_unfinished_run_anew(unfinished, adata, tmp_path):
    fit(adata, unfinished, seed=1, overwrite=True), fit(adata, tmp_path / "new", seed=1)
    ends = [digest(place)["model.safetensors"] for place in (unfinished, tmp_path / "new")]
    assert ends[0] == ends[1]


def test_a_run_of_a_user_defined_story_needs_it_again(adata, tmp_path):
    story = Story(model=VAE, guide=VAEGuide, objective=MeanField)
    run = fit(adata, tmp_path / "own", story=story)
    with pytest.raises(ValueError, match="user-defined story"):
        pgm_expr.load(tmp_path / "own")
    again = pgm_expr.load(tmp_path / "own", story=story)
    assert np.array_equal(again.embed(adata.copy()), run.embed(adata.copy()))


def test_a_failed_write_leaves_the_old_file(folder, monkeypatch):
    before = digest(folder)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        RunFolder(folder).write("story.json", {})
    assert digest(folder) == before


def test_history_survives_the_file(tmp_path):
    rows = [dict(epoch=0, beta=1 / 3, train=0.1, validation=-1e-17, skipped=0, seconds=2.5)]
    folder = RunFolder(tmp_path)
    assert folder.read_history() == []
    folder.write_history(rows)
    assert folder.read_history() == rows
