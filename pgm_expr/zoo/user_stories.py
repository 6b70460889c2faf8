"""User-defined stories: a file, written from a story of the zoo, edited, and read back."""

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
from .source import source

SUFFIX = ".py"
END = "End the file with story = Story(model=..., guide=...)."


def new(path: str | Path, name: str = "vae") -> None:
    """Write a story of the zoo as one file to edit, model and guide together.

    Parameters
    ----------
    path
        The new file; ends in .py.
    name
        A story of the zoo.

    Raises
    ------
    ValueError
        For an unknown story, and a path where no new file can be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "mine.py"
    >>> new(file, "vae")
    >>> file.read_text().splitlines()[-1]
    'story = Story(model=VAE, guide=VAEGuide)'
    """
    path, text = Path(path), source(named(name))
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
    """Name and story from a name of the zoo, a file, or a `Story`.

    Parameters
    ----------
    given
        A story's name, the path of a file that ends in .py, or a `Story`.

    Returns
    -------
    name, story
        A file has its stem as name, a `Story` that was not read from a file the name "own".

    Raises
    ------
    ValueError
        For an unknown name, and a file without a valid story.

    Examples
    --------
    >>> find_story("vae")[0]
    'vae'
    """
    if isinstance(given, str | Path) and str(given).endswith(SUFFIX):
        given = load_story(given)
    if isinstance(given, Story):
        return Path(given.own["file"]).stem if given.own else "own", given
    return str(given), named(str(given))


def load_story(path: str | Path) -> Story:
    """The `story` of a user's file, which is executed.

    Parameters
    ----------
    path
        A file in UTF-8 that ends in `story = Story(...)`. It must run by itself.

    Returns
    -------
    Story
        With name, hash and text of the file as `own`. The source of its classes can be inspected,
        as it was when read.

    Raises
    ------
    ValueError
        Where the file cannot be read or run, or defines no valid story; one line, with file and
        line number.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "mine.py"
    >>> new(file, "linear")
    >>> load_story(file).model.__name__
    'LinearVAE'
    """
    path = Path(path)
    text = _read(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    story = _checked(getattr(_execute(path, text, digest), "story", None), path.name)
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
    """A module of that text, registered under a unique name."""
    file = str(path.resolve())
    name = "_user_story_" + hashlib.sha256(f"{file} {digest}".encode()).hexdigest()[:16]
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


def _checked(story: object, name: str) -> Story:
    if story is None:
        raise ValueError(f"{name} defines no `story`. {END}")
    if not isinstance(story, Story):
        raise ValueError(f"{name}: `story` must be a Story: got {type(story).__name__}. {END}")
    for half in ("model", "guide"):
        made = getattr(story, half)
        if isinstance(made, nn.Module) or not callable(made):
            raise ValueError(
                f"{name}: the {half} of a Story must be a class: got {_a(made)}. Name the class, "
                "without calling it."
            )
    objective = story.objective
    if isinstance(objective, Objective) or not callable(objective):
        raise ValueError(f"{name}: the objective of a Story must be a class: got {_a(objective)}.")
    if isinstance(objective, type) and not issubclass(objective, Objective):
        raise ValueError(
            f"{name}: the objective {objective.__name__} must derive from "
            "pgm_expr.inference.Objective."
        )
    return story


def _a(value: object) -> str:
    return f"an instance of {type(value).__name__}"
