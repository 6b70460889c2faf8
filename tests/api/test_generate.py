"""Cells from generators that learn a run's posteriors, and from a prior that does."""

from functools import partialmethod

import numpy as np
import pytest
import torch
from anndata import read_h5ad

import pgm_expr
from pgm_expr import simulate
from pgm_expr.cli import main as cli
from pgm_expr.diffusion import LatentDiffusion
from pgm_expr.tasks import GENERATORS
from pgm_expr.tasks.generate import train_generator

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
STEPS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("generate")
    truth = simulate.simulate(500, 40, seed=0, types=3, median_library=2000.0)
    truth.to_anndata().write_h5ad(place / "cells.h5ad")
    pgm_expr.fit(
        place / "cells.h5ad",
        labels_key="type",
        epochs=40,
        progress=False,
        latent=2,
        hidden=16,
        out=place / "run",
    )
    return place


@pytest.fixture
def run(folder):
    return pgm_expr.load(folder / "run")


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


def test_a_generator_is_kept_with_the_run(run, folder):
    run.generators["flow"] = train_generator(run, "flow", steps=STEPS)
    run.save(folder / "with_flow")
    again = pgm_expr.load(folder / "with_flow")
    assert (again.generate(20, by="flow").X != run.generate(20, by="flow").X).nnz == 0
    assert again.generators["flow"].notes["steps"] == STEPS


def test_a_condition_decides_what_is_drawn(run, folder):
    run.generators["flow"] = train_generator(run, "flow", steps=400)
    means = {}
    for level in run.encoding.labels:
        drawn = run.generate(200, by="flow", condition={"type": level})
        assert (drawn.obs["type"] == level).all()
        means[level] = composition(drawn.X)
    cells = read_h5ad(folder / "cells.h5ad")
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


def test_cells_of_the_test_set_are_never_learnt_from(run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        GENERATORS["flow"],
        "fit",
        lambda self, posterior, condition=None, **_: seen.append(len(posterior())) or iter([0.0]),
    )
    train_generator(run, "flow")
    assert seen == [len(run.table.split.development)]


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


def test_a_learnt_prior_raises_the_bound_and_nothing_else_moves(run, folder):
    new = run.learn_prior("mog", steps=600)
    assert new.notes["options"]["prior"] == "mog" and run.notes["options"].get("prior") != "mog"
    cells = run.query(folder / "cells.h5ad")
    batches = [*run.unlabelled(cells, np.arange(len(cells)))]
    before, after = (pgm_expr.inference.score(each.bound(), batches) for each in (run, new))
    assert after > before + 0.1
    z = [each.embed(folder / "cells.h5ad") for each in (run, new)]
    assert (z[0] == z[1]).all()
    decoded = [each.model.decode.state_dict() for each in (run, new)]
    assert all(torch.equal(decoded[0][n], decoded[1][n]) for n in decoded[0])
    new.save(folder / "prior")
    again = pgm_expr.load(folder / "prior")
    assert (again.sample(10).X != new.sample(10).X).nnz == 0


def test_a_prior_that_cannot_be_swapped_is_refused(run):
    with pytest.raises(ValueError, match="vamp"):
        run.learn_prior("vamp")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        run.learn_prior("mog", steps=0)


@pytest.mark.cuda
@pytest.mark.parametrize("name", GENERATORS)
def test_on_a_cuda_device(folder, name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run = pgm_expr.load(folder / "run", device="cuda").learn(name, steps=20)
    assert run.generate(10, by=name).shape == (10, 40)


def type_in(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code or 0


def test_commands(folder, run, monkeypatch, capsys):
    quick = partialmethod(LatentDiffusion.fit, steps=STEPS)
    monkeypatch.setattr(LatentDiffusion, "fit", quick)
    out = folder / "new.h5ad"
    asked = ["--n", 12, "--out", out, "--guidance", 1.5, "--steps", 5, "--condition", "type=type1"]
    assert type_in("generate", folder / "run", *asked) == 0
    assert "12 cells x 40 genes by diffusion with type=type1" in capsys.readouterr().out
    assert (folder / "run" / "generator-diffusion.safetensors").exists()
    assert read_h5ad(out).shape == (12, 40)
    assert type_in("generate", folder / "run", "--with", "flw", "--out", out) == 2
    assert "flow" in capsys.readouterr().err
    made = folder / "other"
    assert (
        type_in("learn-prior", folder / "run", "--prior", "mog", "--steps", 20, "--out", made) == 0
    )
    assert "Run written to" in capsys.readouterr().out
    assert type_in("learn-prior", folder / "run", "--out", made) == 2
    assert "finished run" in capsys.readouterr().err
