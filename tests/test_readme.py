"""The README says only what is so: the story it shows, the names and files it uses."""

import inspect
import re
import subprocess
from pathlib import Path

import pytest

import pgm_expr
from pgm_expr import Run, cli, models, zoo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_story_is_the_file():
    assert Path(models.vae.__file__).read_text().strip() in README


def test_every_command_is_one():
    used = set(re.findall(r"pgm-expr (\w+)", README))
    assert used and used <= {command.callback.__name__ for command in cli.app.registered_commands}


def test_every_option_is_one():
    options = set(re.findall(r"(--[a-z-]+)", README)) - {"--peers"}
    source = inspect.getsource(cli)
    declared = source + re.sub(r"_", "-", " ".join(re.findall(r"^    (\w+):", source, re.M)))
    assert options and all(option.strip("-") in declared for option in options)


def test_every_method_is_one():
    used = set(re.findall(r"\brun\.(\w+)", README))
    fields = set(Run.__dataclass_fields__)
    assert used and all(hasattr(Run, name) or name in fields for name in used)
    assert all(hasattr(pgm_expr, name) for name in re.findall(r"\bpgm_expr\.(\w+)\(", README))


def test_every_file_is_there():
    named = re.findall(r"`(pgm_expr/[\w/.]+)`", README) + re.findall(
        r"`(benchmarks/\w+.py)", README
    )
    assert named and all((ROOT / name).exists() for name in named)


def test_parts_named_on_the_command_line_exist():
    for edge, name in re.findall(r"--set (\w+)=([a-z]+)", README):
        assert name in zoo.PARTS[edge]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_knows_the_two_commands(target):
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and f"make {target}" in README
