"""Read a run back from its folder. Nothing in it is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import zoo
from ..inference import load_tensors
from ..zoo import Story
from .assemble import assemble
from .fitted import Fitted
from .folder import METRICS, MODEL, STORY, RunFolder, generator_file
from .formats import check_format
from .generators import GENERATORS, Learnt, under


def load(
    path: str | Path, story: str | Path | Story | None = None, *, device: str = "auto"
) -> Fitted:
    """A run from its folder. Nothing in it is executed; a user-defined story is passed again.

    Raises ValueError where the folder holds no finished run, or one of another story.
    """
    folder = RunFolder(path)
    notes = folder.read(STORY)
    check_format(path, notes)
    spec = story_of(path, notes, story)
    if not (folder.path / MODEL).exists():
        raise ValueError(f"'{path}' holds an unfinished run. Repeat its `fit` to resume it.")
    run = assemble(spec, notes, device)
    run.notes, run.folder = notes, folder
    tensors, _ = load_tensors(folder.path / MODEL)
    for name, half in (("model", run.model), ("guide", run.guide)):
        _restore(half, under(f"{name}/", tensors), folder.path / MODEL)
    run.history, run.metrics = folder.read_history(), _metrics(folder)
    run.generators = {
        name: Learnt.load(folder.path / generator_file(name), run.device)
        for name in GENERATORS
        if (folder.path / generator_file(name)).exists()
    }
    return run


def _metrics(folder: RunFolder) -> dict[str, Any]:
    """The figures of an earlier `evaluate`; none where they are missing or damaged."""
    try:
        return folder.read(METRICS)
    except ValueError:
        return {}


def _restore(half: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        half.load_state_dict(weights)
    except RuntimeError:
        raise ValueError(
            f"the weights in '{path}' do not match its story.json. Fit again with --overwrite."
        ) from None
    half.eval()


def story_of(
    path: str | Path, notes: Mapping[str, Any], given: str | Path | Story | None
) -> Story:
    """The story of a run: the zoo's, or what the user gives again. Never the run's own text.

    ValueError where a user-defined story is not given, or its file has changed since the fit.
    """
    own = notes.get("own")
    if given is None:
        _refuse_own(path, notes, own)
        return zoo.story(notes["story"])
    name, story = zoo.find_story(given)
    if own and story.own:
        _refuse_changed(path, own, story.own)
    elif not isinstance(given, Story) and (name, story.own, own) != (notes["story"], None, None):
        _refuse_other(path, notes, given)
    return story


def _refuse_own(path: str | Path, notes: Mapping[str, Any], own: Mapping[str, str] | None) -> None:
    if own:
        raise ValueError(
            f"'{path}' is a run of the user-defined story {own['file']}, which is not loaded from "
            f"the run. Pass it again: --story {own['file']}, or load(path, story='{own['file']}')."
        )
    if notes["story"] == "own":
        raise ValueError(
            f"'{path}' is a run of a user-defined story. Pass it: load(path, story=...)."
        )


def _refuse_other(path: str | Path, notes: Mapping[str, Any], given: str | Path) -> None:
    """The file of a `Story` object is the user's to know; all else must be what was fitted."""
    own = notes.get("own")
    if own or notes["story"] != "own":
        raise ValueError(
            f"'{path}' is a run of the story {own['file'] if own else notes['story']}: got "
            f"{given}. Pass that story, or none if it is in the zoo."
        )


def _refuse_changed(path: str | Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    if then["sha256"] != now["sha256"]:
        raise ValueError(
            f"story file {now['file']} is not the {then['file']} that '{path}' was fitted with: "
            f"its hash is {now['sha256'][:8]}, was {then['sha256'][:8]}. Pass --story with the "
            "original, whose text is in story.json under own.text, or fit again."
        )
