"""Which story a run is of: one of the zoo, or a user's file that must be given again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import zoo
from ..zoo import Story


def story_of(
    path: str | Path, notes: Mapping[str, Any], given: str | Path | Story | None
) -> Story:
    """The story of a run: the zoo's, or what the user gives again. Never the run's own text.

    ValueError where an own story is not given, or its file has changed since the fit.
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
            f"'{path}' is a run of the own story {own['file']}, which is not read from there. "
            f"Pass it again: --story {own['file']}, or load(path, story='{own['file']}')."
        )
    if notes["story"] == "own":
        raise ValueError(f"'{path}' is a run of an own story. Pass it: load(path, story=...).")


def _refuse_other(path: str | Path, notes: Mapping[str, Any], given: str | Path) -> None:
    """The file of a `Story` object is the user's to know; all else must be what was fitted."""
    own = notes.get("own")
    if own or notes["story"] != "own":
        raise ValueError(
            f"'{path}' is a run of the story {own['file'] if own else notes['story']}: got "
            f"{given}. Pass that one, or none for a story of the zoo."
        )


def _refuse_changed(path: str | Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    if then["sha256"] != now["sha256"]:
        raise ValueError(
            f"story file {now['file']} is not the {then['file']} that '{path}' was fitted with: "
            f"its hash is {now['sha256'][:8]}, was {then['sha256'][:8]}. Pass --story with the "
            "original, whose text is in story.json under own.text, or fit again."
        )
