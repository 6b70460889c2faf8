"""Stories of a user's own: one file, begun from a story of the zoo and read back from there."""

from __future__ import annotations

import hashlib
import linecache
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from torch import nn

from ..inference import Objective
from ..inference.source_lines import of_error, prefix
from .catalogue import Story
from .catalogue import story as named
from .page import page

SUFFIX = ".py"
END = "End the file with story = Story(model=..., guide=...)."


def new(path: str | Path, name: str = "vae") -> None:
    """Write a story of the zoo as one file to edit, model and guide together.

    Raises ValueError for an unknown story, and where `path` is no place for a new file.
    """
    path, text = Path(path), page(named(name))
    if path.suffix != SUFFIX:
        raise ValueError(f"'{path}' must end in {SUFFIX}: got '{path.suffix}'. Rename it.")
    if not path.resolve().parent.is_dir():
        raise ValueError(f"'{path}': no folder {path.parent}. Make it first.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"'{path}' is there already. Name another file, or remove it.") from None


def find_story(given: str | Path | Story) -> tuple[str, Story]:
    """Name and story of what a user gave: a name of the zoo, a file ending in .py, or a `Story`.

    A file goes by its stem, a `Story` made elsewhere by "own".
    """
    if isinstance(given, (str, Path)) and str(given).endswith(SUFFIX):
        given = load_story(given)
    if isinstance(given, Story):
        return Path(given.own["file"]).stem if given.own else "own", given
    return str(given), named(str(given))


def load_story(path: str | Path) -> Story:
    """The `story` of a user's file, which is executed; ValueError says in one line what is wrong.

    Its classes can be inspected as those of any module, in the text of this moment.
    """
    path = Path(path)
    text = _read(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    story = getattr(_execute(path, text, digest), "story", None)
    _check(story, path.name)
    return replace(story, own={"file": path.name, "sha256": digest, "text": text})


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise ValueError(f"'{path}' is not a text file in UTF-8. Name a story's file.") from None
    except OSError as error:
        raise ValueError(
            f"story file '{path}': {error.strerror}. Name a file, or write one: pgm-expr new "
            f"{path.name}."
        ) from None


def _execute(path: Path, text: str, digest: str) -> ModuleType:
    """A module of that text, known to Python under a name of its own."""
    file = str(path.resolve())
    name = "_own_story_" + hashlib.sha256(f"{file} {digest}".encode()).hexdigest()[:16]
    module = ModuleType(name)
    module.__file__ = file
    # Without a time of change, the lines stay those that were executed.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(_words(error, file)) from error
    return module


def _words(error: BaseException, file: str) -> str:
    kind, line = type(error).__name__, of_error(error, file)
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{prefix((file, error.lineno or 1))}{kind}: {error.msg}. Correct the line."
    said = " ".join(str(error).split()).rstrip(".")
    return f"{prefix(line or (file, 1))}{kind}: {said}. The file must run by itself."


def _check(story: object, name: str) -> None:
    if story is None:
        raise ValueError(f"{name} has no `story`. {END}")
    if not isinstance(story, Story):
        raise ValueError(f"{name}: `story` is no Story: got {type(story).__name__}. {END}")
    for half in ("model", "guide"):
        made = getattr(story, half)
        if isinstance(made, nn.Module) or not callable(made):
            raise ValueError(
                f"{name}: the {half} of a Story is a class: got {_a(made)}. Name the class, "
                "without calling it."
            )
    objective = story.objective
    if isinstance(objective, Objective) or not callable(objective):
        raise ValueError(f"{name}: the objective of a Story is a class: got {_a(objective)}.")
    if isinstance(objective, type) and not issubclass(objective, Objective):
        raise ValueError(
            f"{name}: objective {objective.__name__} is no pgm_expr.inference.Objective. Derive "
            "it from there."
        )


def _a(value: object) -> str:
    return f"an instance of {type(value).__name__}"
