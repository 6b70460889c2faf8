"""docs/api.md names what exists, and every verb; each public package states its names."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import pgm_expr
from pgm_expr.runs.formats import FORMAT

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
SECTIONS = dict(re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
PACKAGES = [name for name in SECTIONS if name != "pgm_expr.Run"]


def listed(section):
    """The names in the first column of its table."""
    return re.findall(r"^\| `(\w+)` \|", SECTIONS[section], re.M)


def verbs(run):
    """The public functions that a class states itself, in order."""
    return [name for name, value in vars(run).items() if name[0] != "_" and callable(value)]


def order(name):
    """Constants, then classes, then functions, each by the alphabet: as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_verbs_are_found():
    class Planted(pgm_expr.Run):
        def verb(run):
            pass

    assert verbs(Planted) == ["verb"]


def test_what_the_page_names_of_a_run_exists():
    fields = pgm_expr.Run.__dataclass_fields__
    state = SECTIONS["pgm_expr.Run"].split("\n\n| name")[0]
    for name in listed("pgm_expr.Run"):
        assert inspect.isfunction(getattr(pgm_expr.Run, name))
    named = [name for name in re.findall(r"`(\w+)`", state) if name != "evaluate"]
    assert named and {*named} <= {*fields}


def test_every_public_package_is_on_the_page():
    stable = "models guides parts distributions inference evaluation tasks simulate diffusion flow"
    assert PACKAGES == ["pgm_expr", *(f"pgm_expr.{name}" for name in [*stable.split(), "data"])]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_states_its_names(package):
    module = import_module(package)
    assert module.__all__ == sorted({*module.__all__}, key=order)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_the_page_names_of_a_package_is_public(package):
    """In the order of `__all__`; a name that the page leaves out is public all the same."""
    names = import_module(package).__all__
    assert listed(package) == [name for name in names if name in listed(package)]


def test_the_page_lists_all_of_the_top_level():
    assert listed("pgm_expr") == pgm_expr.__all__


def test_the_page_states_the_format_of_this_version():
    rows = re.findall(r"^\| (\d+)[^|]*\| [^|]*\d\.\d\.\d \|", PAGE, re.M)
    assert [int(number) for number in rows] == [*range(FORMAT + 1)]
