"""Each user verb is a function of `tasks`, a line of `Run`, and has a complete docstring."""

import importlib
import inspect
import pkgutil
import re

import pytest

from pgm_expr import Run, tasks

VERBS = {name: value for name, value in vars(Run).items() if inspect.isfunction(value)}
VERBS = {name: verb for name, verb in VERBS.items() if name[0] != "_"}


def takes_a_run(value):
    return inspect.isfunction(value) and [*inspect.signature(value).parameters][:1] == ["run"]


def of_files():
    """The verbs whose files are named after them."""
    names = [module.name for module in pkgutil.iter_modules(tasks.__path__)]
    files = {name: importlib.import_module(f"{tasks.__name__}.{name}") for name in names}
    return {name for name, file in files.items() if takes_a_run(vars(file).get(name))}


def test_each_file_named_after_a_verb_is_public():
    assert {"embed", "sleep"} < of_files() <= {*tasks.__all__}


def test_each_public_task_is_a_verb_of_a_run():
    public = {name: getattr(tasks, name) for name in tasks.__all__}
    assert {name: task for name, task in public.items() if takes_a_run(task)}.items() <= (
        VERBS.items()
    )


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_one_complete_docstring(name):
    text = inspect.getdoc(VERBS[name])
    first = text.split("\n\n")[0]
    assert first.endswith(".") and len(first.splitlines()) == 1
    parameters = [p for p in inspect.signature(VERBS[name]).parameters if p != "run"]
    described = text.partition("Parameters\n---")[2]
    named = {
        name
        for line in re.findall(r"^\w+(?:, \w+)*$", described, re.M)
        for name in line.split(", ")
    }
    assert {*parameters} <= named
    assert "Returns\n---" in text and "Examples\n---" in text
    assert "\n>>> " in text.partition("Examples\n---")[2]
