"""The source of a story as one file: model and guide joined, ready to be edited."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .catalogue import Story

WIDTH = 99  # of a line
HERE = __package__.split(".")[0]


class Name(NamedTuple):
    """`import module`, or `from module import name`, with its `as`."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def section(self) -> int:
        """Futures, the standard library, others, us."""
        top = self.module.split(".")[0]
        return {"__future__": 0, HERE: 3}.get(top, 1 if top in sys.stdlib_module_names else 2)

    @property
    def order(self) -> tuple:
        """Whole modules first; of one module constants, classes, then the rest."""
        kind = 0 if self.name.isupper() and len(self.name) > 1 else 1 + self.name[:1].islower()
        return bool(self.name), self.module.lower(), kind, self.name.lower(), self.alias


def source(story: Story) -> str:
    """Model and guide of a story in one file that ends in `story = Story(...)`.

    Parameters
    ----------
    story
        A story whose halves are classes in modules.

    Returns
    -------
    str
        Python source: docstring, imports, both classes, and the story.

    Examples
    --------
    >>> from pgm_expr import zoo
    >>> source(zoo.story("vae")).splitlines()[0]
    'r\"\"\"VAE of raw counts: one latent state per cell.'
    """
    halves = (story.model, story.guide)
    modules = list(dict.fromkeys(sys.modules[half.__module__] for half in halves))
    names, last = _ending(story)
    opening, bodies = "", list[str]()
    for module in modules:
        text = inspect.getsource(module)
        tree = ast.parse(text)
        names |= set(_imports(tree, module))
        docstring = _in_one_file(ast.get_docstring(tree, clean=False) or "", modules)
        opening = opening or docstring
        body = _body(text, tree)
        bodies.append(f"{_comment(docstring)}\n\n\n{body}" if bodies else body)
    gap = "\n\n\n" if bodies[0].startswith(("class ", "def ", "@", "#")) else "\n\n"
    whole = "\n\n\n".join([*bodies, last])
    return f'r"""{opening}"""\n\n{_write(names)}{gap}{whole}\n'


def _ending(story: Story) -> tuple[set[Name], str]:
    """The line that ties the pair, and what it imports."""
    names, more = {Name(HERE, "Story")}, ""
    if story.objective is not Story.objective:
        names.add(Name(f"{HERE}.inference", story.objective.__name__))
        more = f", objective={story.objective.__name__}"
    if story.unit != Story.unit:
        more += f', unit="{story.unit}"'
    return (
        names,
        f"story = Story(model={story.model.__name__}, guide={story.guide.__name__}{more})",
    )


def _in_one_file(docstring: str, modules: Iterable[ModuleType]) -> str:
    """A docstring that refers to the other half by its place in the file."""
    for module, place in zip(modules, ("the model above", "the guide below"), strict=False):
        path = Path(str(module.__file__))
        docstring = docstring.replace(f"{path.parent.name}/{path.name}", place)
    return docstring


def _comment(text: str) -> str:
    return "\n".join(f"# {line}".rstrip() for line in text.strip().splitlines())


def _top(tree: ast.Module) -> list[ast.stmt]:
    """The docstring and the imports of a module."""
    first = tree.body[:1] if ast.get_docstring(tree) else []
    return first + [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]


def _imports(tree: ast.Module, module: ModuleType) -> Iterable[Name]:
    for node in _top(tree):
        if isinstance(node, ast.Import):
            yield from (Name(alias.name, "", alias.asname or "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(relative, module.__package__)
            yield from (Name(origin, alias.name, alias.asname or "") for alias in node.names)


def _body(text: str, tree: ast.Module) -> str:
    """A module without its docstring and imports."""
    spans = ((node.lineno, node.end_lineno or node.lineno) for node in _top(tree))
    left_out = {n for first, last in spans for n in range(first, last + 1)}
    lines = text.splitlines()
    return "\n".join(line for n, line in enumerate(lines, 1) if n not in left_out).strip()


def _write(names: Iterable[Name]) -> str:
    """Import statements in the order of isort."""
    ordered = sorted(names, key=lambda name: (name.section, name.order))
    sections = (list(group) for _, group in groupby(ordered, key=lambda name: name.section))
    return "\n\n".join("\n".join(_statements(section)) for section in sections)


def _statements(names: list[Name]) -> Iterable[str]:
    for (module, whole), group in groupby(names, key=lambda name: (name.module, not name.name)):
        if whole:
            yield from (f"import {module}{_as(name)}" for name in group)
            continue
        given = [f"{name.name}{_as(name)}" for name in group]
        line = f"from {module} import {', '.join(given)}"
        broken = "".join(f"    {one},\n" for one in given)
        yield line if len(line) <= WIDTH else f"from {module} import (\n{broken})"


def _as(name: Name) -> str:
    return f" as {name.alias}" if name.alias else ""
