"""A run whose guide learns from its story's own cells: better calibrated, the story as it was."""

import json

import pytest
import torch

import pgm_expr
from pgm_expr.cli import main as cli

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")


@pytest.fixture
def run(fitted):
    return fitted("vae-types")


def test_a_guide_too_narrow_is_calibrated_again_and_the_story_stays(run):
    run.guide.posterior.raw_scale.bias.data -= 1.0
    story = {name: value.clone() for name, value in run.model.state_dict().items()}
    before = run.criticize(sections=["sbc"])["sbc"]
    assert run.sleep(600) is run
    after = run.criticize(sections=["sbc"])["sbc"]
    assert after["pooled_error"] < 0.5 * before["pooled_error"]
    assert all(torch.equal(value, story[name]) for name, value in run.model.state_dict().items())


def test_a_slept_run_is_kept_with_what_was_done(run, fitted, tmp_path):
    run.sleep(30).save(tmp_path / "slept")
    again = pgm_expr.load(tmp_path / "slept")
    told = again.notes["sleep"]
    assert told["steps"] == 30 and len(told["log_q"]) == 1
    assert told["validation_before"] != told["validation_after"]
    cells = fitted.data("vae-types")
    assert (again.embed(cells) == run.embed(cells)).all()


def test_no_steps_are_refused(run):
    with pytest.raises(ValueError, match="steps must be at least 1: got 0"):
        run.sleep(0)


def test_the_command_writes_another_run_and_never_over_one(fitted, tmp_path, capsys):
    other = tmp_path / "other"
    arguments = ["sleep", fitted.folder("vae-types"), "--out", other, "--steps", 20]
    assert type_in(arguments) == 0
    said = capsys.readouterr().out
    assert "Validation ELBO" in said and "Run written to" in said
    assert json.loads((other / "story.json").read_text())["sleep"]["steps"] == 20
    assert type_in(arguments) == 2
    assert "holds a finished run" in capsys.readouterr().err


def type_in(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(each) for each in arguments])
    return stop.value.code or 0
