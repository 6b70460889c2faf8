"""Examples and benchmarks use only names that the package has: most of them run in no test."""

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for each in ("examples", "benchmarks") for path in (ROOT / each).glob("*.py")
)


def named(module, name):
    """An attribute of a module, or a module below it."""
    try:
        return getattr(module, name)
    except AttributeError:
        return import_module(f"{module.__name__}.{name}")


def imports(tree):
    """What a script imports of the package: (module, name there or None, name in the script)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                yield whole, None, alias.asname or whole
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield node.module, alias.name, alias.asname or alias.name


def missing(text):
    """Names of the package in a script that do not exist, `module.name` each."""
    tree, modules, absent = ast.parse(text), {}, []
    for module, name, known in imports(tree):
        if module.split(".")[0] != "pgm_expr":
            continue
        try:
            found = import_module(module) if name is None else named(import_module(module), name)
        except ImportError:
            absent.append(f"{module}.{name}")
            continue
        if isinstance(found, ModuleType):
            modules[known] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and not hasattr(module, node.attr):
                absent.append(f"{module.__name__}.{node.attr}")
    return absent


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_name_exists(path):
    assert missing(path.read_text()) == []


def test_a_name_that_moved_is_found():
    text = (
        "import pgm_expr\nfrom pgm_expr import evaluation as e\nfrom pgm_expr.data import swep\n"
    )
    absent = missing(f"{text}e.withheld(1)\ne.judge(pgm_expr.fit(2), pgm_expr.fitt)\n")
    assert sorted(absent) == [
        "pgm_expr.data.swep",
        "pgm_expr.evaluation.withheld",
        "pgm_expr.fitt",
    ]
