"""A run whose guide learns from its story's own cells: better calibrated, the story as it was."""

import json

import pytest
import torch

import pgm_expr
from pgm_expr import simulate
from pgm_expr.cli import main as cli

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sleep")
    truth = simulate.simulate(500, 40, seed=0, types=3, median_library=2000.0)
    truth.to_anndata().write_h5ad(place / "cells.h5ad")
    keys = dict(labels_key="type", epochs=15, progress=False)
    pgm_expr.fit(place / "cells.h5ad", latent=2, hidden=16, out=place / "run", **keys)
    return place


def test_states_are_better_calibrated_and_the_story_stays(folder):
    run = pgm_expr.load(folder / "run")
    story = {name: value.clone() for name, value in run.model.state_dict().items()}
    before = run.criticize(sections=["sbc"])["sbc"]
    assert run.sleep(600) is run
    after = run.criticize(sections=["sbc"])["sbc"]
    assert after["pooled_error"] < 0.5 * before["pooled_error"]
    assert all(torch.equal(value, story[name]) for name, value in run.model.state_dict().items())


def test_a_slept_run_is_kept_with_what_was_done(folder):
    run = pgm_expr.load(folder / "run").sleep(30)
    run.save(folder / "slept")
    again = pgm_expr.load(folder / "slept")
    told = again.notes["sleep"]
    assert told["steps"] == 30 and len(told["log_q"]) == 1
    assert told["validation_before"] != told["validation_after"]
    assert (again.embed(folder / "cells.h5ad") == run.embed(folder / "cells.h5ad")).all()


def test_no_steps_are_refused(folder):
    with pytest.raises(ValueError, match="steps must be at least 1: got 0"):
        pgm_expr.load(folder / "run").sleep(0)


def test_the_command_writes_another_run_and_never_over_one(folder, capsys):
    arguments = ["sleep", str(folder / "run"), "--out", str(folder / "other"), "--steps", "20"]
    assert type_in(arguments) == 0
    said = capsys.readouterr().out
    assert "Bound of validation cells" in said and "Run written to" in said
    assert json.loads((folder / "other" / "story.json").read_text())["sleep"]["steps"] == 20
    assert type_in(arguments) == 2
    assert "holds a finished run" in capsys.readouterr().err


def type_in(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return stop.value.code or 0
