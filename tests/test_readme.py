"""The README says only what is so: the story it shows, the names and files it uses."""

import re
import subprocess
from pathlib import Path

import pyro
import pytest
import torch
from typer.main import get_command

import pgm_expr
from pgm_expr import Run, models, zoo
from pgm_expr.cli import main as cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = get_command(cli.app).commands


def test_the_story_is_the_file():
    assert Path(models.vae.__file__).read_text().strip() in README


def loss_of_the_example(steps):
    """The last loss of the example in plain Pyro, run for so many steps."""
    (code,) = [each for each in re.findall(r"```python\n(.*?)```", README, re.S) if "SVI(" in each]
    assert "range(200)" in code
    pyro.clear_param_store()
    torch.manual_seed(0)
    names = {}
    exec(code.replace("range(200)", f"range({steps})"), names)
    pyro.clear_param_store()
    return names["loss"]


def test_the_example_in_plain_pyro_trains():
    first, later = loss_of_the_example(1), loss_of_the_example(40)
    assert later < first - 20  # nats per cell


def test_every_command_is_one():
    used = set(re.findall(r"pgm-expr (\w[\w-]*)", README))
    assert used and used <= set(COMMANDS)


def options(command):
    return {name for p in COMMANDS[command].params for name in (*p.opts, *p.secondary_opts)}


def test_every_option_is_one():
    """Those of a command line that is shown are that command's; all others are some command's."""
    of_benchmarks = {"--peers", "--sleep"}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README)) - of_benchmarks
    assert used and used <= set().union(*map(options, COMMANDS))
    shown = re.findall(r"pgm-expr (\w[\w-]*)((?:[^`\n]|\\\n)*)", README)
    for command, line in shown:
        assert set(re.findall(r" (--[a-z][a-z0-9-]*)", line)) <= options(command), line
    assert any("--" in line for _, line in shown)


def test_every_story_is_in_the_table():
    rows = re.search(r"\| story \| question \| model \|\n(.*?)\n\n", README, re.S)[1].splitlines()
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named == [*zoo.STORIES]


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
