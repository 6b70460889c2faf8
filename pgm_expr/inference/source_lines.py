"""File and line of a definition in a user's file, for error messages."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pyro
from pyro.poutine.messenger import Messenger
from torch import nn

if TYPE_CHECKING:
    from pyro.poutine.runtime import Message

LIBRARIES = {"torch", "pyro", "builtins"}  # packages whose lines are not the user's
Line = tuple[str, int]  # file and number


def prefix(line: Line | None) -> str:
    """`mine.py, line 41: `, or nothing where the line is unknown."""
    return f"{within(line)}: " if line else ""


def within(line: Line) -> str:
    """`mine.py, line 41`."""
    return f"{Path(line[0]).name}, line {line[1]}"


def of_method(owner: Callable, name: str = "forward") -> Line | None:
    """Where a class or one of its bases defines a method; None for a method of a library."""
    for base in _classes(owner):
        if inspect.isfunction(vars(base).get(name)):
            code = inspect.unwrap(vars(base)[name]).__code__
            return code.co_filename, code.co_firstlineno
    return None


def of_error(error: BaseException, owner: Callable | str) -> Line | None:
    """The last line of an exception's traceback in the file of a class, or in a file."""
    stack = traceback.walk_tb(error.__traceback__)
    lines = [(frame.f_code.co_filename, number) for frame, number in stack]
    return _first(reversed(lines), owner)


def of_attribute(owner: Callable, name: str, *, last: bool = False) -> Line | None:
    """The first or last statement of a class, or its bases, that assigns `self.name`."""
    for base in _classes(owner):
        lines, start = _source(base)
        numbers = sorted(_stores(ast.parse("".join(lines)), name)) if lines else []
        if numbers:
            return inspect.getfile(base), start + numbers[-1 if last else 0] - 1
    return None


def sampled(error: BaseException) -> str | None:
    """The name of the site in whose `pyro.sample` an exception was raised."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is pyro.sample.__code__:
            return frame.f_locals["name"]
    return None


class Lines(Messenger):
    """Records the line of each `pyro.sample`, `plate` and `param` of a model or guide, by name."""

    found: dict[str, Line | None]

    def __init__(self, half: nn.Module) -> None:
        super().__init__()
        self.owner, self.found, self.outside = type(half), {}, sys._getframe(1)

    def _pyro_sample(self, msg: Message) -> None:
        self.found[str(msg["name"])] = _first(self._callers(sys._getframe()), self.owner)

    _pyro_param = _pyro_sample

    def _callers(self, frame: FrameType | None) -> Iterable[Line]:
        while frame is not None and frame is not self.outside:
            yield frame.f_code.co_filename, frame.f_lineno
            frame = frame.f_back


def _first(lines: Iterable[Line], owner: Callable | str) -> Line | None:
    """The first line in the file of a class; if there is none, in the file of a base class."""
    lines = list(lines)
    for files in ({owner},) if isinstance(owner, str) else _files(owner):
        for line in lines:
            if line[0] in files:
                return line
    return None


def _files(owner: Callable) -> tuple[set[str], set[str]]:
    """The files of a class, and of the class with its bases."""
    of = {
        base: {inspect.unwrap(v).__code__.co_filename for v in vars(base).values() if _written(v)}
        for base in _classes(owner)
    }
    same = [of[base] for base in of if base.__module__ == owner.__module__]
    return set().union(*same), set().union(*of.values())


def _written(value: object) -> bool:
    return inspect.isfunction(value) and hasattr(inspect.unwrap(value), "__code__")


def _classes(owner: Callable) -> list[type]:
    return [
        base
        for base in getattr(owner, "__mro__", ())
        if base.__module__.split(".")[0] not in LIBRARIES
    ]


def _source(owner: type) -> tuple[list[str], int]:
    """The lines of a class, unindented, and the number of the first; empty where unknown."""
    try:
        lines, start = inspect.getsourcelines(owner)
    except (OSError, TypeError):
        return [], 0
    return textwrap.dedent("".join(lines)).splitlines(keepends=True), start


def _stores(tree: ast.AST, name: str) -> Iterable[int]:
    """Lines of the statements that assign `self.name` a value other than None."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            unset = isinstance(node.value, ast.Constant) and node.value.value is None
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {n.attr for t in targets for n in ast.walk(t) if isinstance(n, ast.Attribute)}
            if name in names and not unset and node.value is not None:
                yield node.lineno
        elif isinstance(node, ast.Call):
            first = node.args[:1]
            if first and isinstance(first[0], ast.Constant) and first[0].value == name:
                yield node.lineno  # self.register_buffer(name, ...)
