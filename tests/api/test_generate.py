"""Cells from generators that learn a run's posteriors, and from a prior that does."""

import shutil
from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest
import torch
from anndata import read_h5ad

import pgm_expr
from pgm_expr.cli import main as cli
from pgm_expr.data import Cells
from pgm_expr.diffusion import LatentDiffusion
from pgm_expr.tasks import GENERATORS
from pgm_expr.tasks.generate import train_generator

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
STEPS = 60


@pytest.fixture
def run(fitted):
    return fitted("vae-types")


@pytest.fixture(scope="module")
def data(fitted):
    return fitted.data("vae-types")


@pytest.mark.parametrize("name", GENERATORS)
def test_counts_are_of_the_run_and_seeded(run, name):
    run.generators[name] = train_generator(run, name, steps=STEPS)
    drawn = run.generate(30, by=name, seed=1)
    assert list(drawn.var_names) == run.notes["genes"] and drawn.shape[0] == 30
    assert np.issubdtype(drawn.X.dtype, np.integer) and drawn.X.min() >= 0
    assert drawn.obsm["X_generated"].shape == (30, 3)
    libraries = np.exp(drawn.obsm["X_generated"][:, -1])
    np.testing.assert_allclose(drawn.obs["library"], libraries, rtol=1e-5)
    again, other = run.generate(30, by=name, seed=1), run.generate(30, by=name, seed=2)
    assert (again.X != drawn.X).nnz == 0 and (other.X != drawn.X).nnz > 0


def test_a_generator_is_kept_with_the_run(run, tmp_path):
    run.generators["flow"] = train_generator(run, "flow", steps=STEPS)
    run.save(tmp_path / "with_flow")
    again = pgm_expr.load(tmp_path / "with_flow")
    assert (again.generate(20, by="flow").X != run.generate(20, by="flow").X).nnz == 0
    assert again.generators["flow"].notes["steps"] == STEPS


def test_a_condition_decides_what_is_drawn(run, data):
    run.generators["flow"] = train_generator(run, "flow", steps=150)
    means = {}
    for level in run.encoding.labels:
        drawn = run.generate(200, by="flow", condition={"type": level})
        assert (drawn.obs["type"] == level).all()
        means[level] = composition(drawn.X)
    cells = read_h5ad(data)
    real = {level: composition(cells[cells.obs["type"] == level].X) for level in means}
    drawn, seen = (apart(np.stack([each[k] for k in real])) for each in (means, real))
    assert (np.argmax(drawn @ seen.T, 1) == np.arange(len(real))).all()


def apart(compositions):
    """Log fold changes against the mean of all types, of length 1."""
    log = np.log(compositions) - np.log(compositions.mean(0))
    return log / np.linalg.norm(log, axis=1, keepdims=True)


def composition(x):
    mean = np.asarray(x.mean(0)).ravel() + 0.05
    return mean / mean.sum()


def test_cells_of_the_test_set_are_never_learnt_from(run, fitted):
    """With other counts in them, the same weights; with other counts elsewhere, others."""
    learnt = []
    for part in (None, run.table.split.test, run.table.split.validation):
        own = fitted("vae-types")
        cells, order = own.table.cells, np.arange(len(own.table.cells))
        if part is not None:
            order[part] = part[::-1]
        exchanged = Cells(cells.counts[order], cells.columns, cells.genes, cells.names)
        own.table = replace(own.table, cells=exchanged)
        module = train_generator(own, "flow", steps=5).generator
        learnt.append(torch.cat([value.flatten() for value in module.state_dict().values()]))
    assert torch.equal(learnt[0], learnt[1]) and not torch.equal(learnt[0], learnt[2])


def test_libraries_can_be_given(run):
    run.generators["flow"] = train_generator(run, "flow", steps=STEPS)
    library = np.linspace(500, 5000, 300)
    drawn = run.generate(300, by="flow", library=library)
    np.testing.assert_allclose(drawn.obs["library"], library, rtol=1e-4)
    totals = np.asarray(drawn.X.sum(1)).ravel()
    assert np.corrcoef(np.log(totals), np.log(library))[0, 1] > 0.7


def test_prior_is_the_storys_own(run):
    assert (run.generate(15, by="prior", seed=3).X != run.sample(15, seed=3).X).nnz == 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (dict(by="difusion"), "diffusion"),
        (dict(by="flow", guidance=2.0), "flow has no option guidance"),
        (dict(condition={"type": "type9"}), "type9"),
        (dict(condition={"donor": "a"}), "donor"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_training(run, how, words):
    with pytest.raises(ValueError, match=words):
        run.generate(5, **how)
    assert not run.generators


def test_a_learnt_prior_raises_the_bound_and_nothing_else_moves(run, data, tmp_path):
    new = run.learn_prior("mog", steps=600)
    assert new.notes["options"]["prior"] == "mog" and run.notes["options"].get("prior") != "mog"
    cells = run.query(data)
    batches = [*run.unlabelled(cells, np.arange(len(cells)))]
    before, after = (pgm_expr.inference.score(each.bound(), batches) for each in (run, new))
    assert after > before + 0.1
    z = [each.embed(data) for each in (run, new)]
    assert (z[0] == z[1]).all()
    decoded = [each.model.decode.state_dict() for each in (run, new)]
    assert all(torch.equal(decoded[0][n], decoded[1][n]) for n in decoded[0])
    new.save(tmp_path / "prior")
    again = pgm_expr.load(tmp_path / "prior")
    assert (again.sample(10).X != new.sample(10).X).nnz == 0


def test_a_prior_that_cannot_be_swapped_is_refused(run):
    with pytest.raises(ValueError, match="vamp"):
        run.learn_prior("vamp")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        run.learn_prior("mog", steps=0)


@pytest.mark.cuda
@pytest.mark.parametrize("name", GENERATORS)
def test_on_a_cuda_device(fitted, name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run = pgm_expr.load(fitted.folder("vae-types"), device="cuda").learn(name, steps=20)
    assert run.generate(10, by=name).shape == (10, 40)


def type_in(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code or 0


def test_commands(fitted, tmp_path, monkeypatch, capsys):
    folder, out = (
        shutil.copytree(fitted.folder("vae-types"), tmp_path / "run"),
        tmp_path / "n.h5ad",
    )
    quick = partialmethod(LatentDiffusion.fit, steps=STEPS)
    monkeypatch.setattr(LatentDiffusion, "fit", quick)
    asked = ["--n", 12, "--out", out, "--guidance", 1.5, "--steps", 5, "--condition", "type=type1"]
    assert type_in("generate", folder, *asked) == 0
    assert "12 cells x 40 genes by diffusion with type=type1" in capsys.readouterr().out
    assert (folder / "generator-diffusion.safetensors").exists()
    assert read_h5ad(out).shape == (12, 40)
    assert type_in("generate", folder, "--with", "flw", "--out", out) == 2
    assert "flow" in capsys.readouterr().err
    made = tmp_path / "other"
    assert type_in("learn-prior", folder, "--prior", "mog", "--steps", 20, "--out", made) == 0
    assert "Run written to" in capsys.readouterr().out
    assert type_in("learn-prior", folder, "--out", made) == 2
    assert "finished run" in capsys.readouterr().err
