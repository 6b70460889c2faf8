"""Who may import whom: the table of the design, kept by reading the imports."""

import ast
import shutil
from pathlib import Path

import pytest

import pgm_expr

PACKAGE = Path(pgm_expr.__file__).parent
STORY = "parts distributions nn"
BELOW_API = (
    "data nn distributions report parts models guides inference diffusion flow simulate "
    "evaluation zoo tasks"
)
ALLOWED = {
    "data": "",
    "nn": "",
    "distributions": "",
    "report": "",
    "parts": "distributions nn",
    "models": STORY,
    "guides": STORY,
    "inference": "distributions",
    "diffusion": "nn",
    "flow": "nn",
    "simulate": "models parts distributions",
    "evaluation": "inference distributions nn",
    "zoo": "models guides parts inference distributions nn flow",
    "tasks": "zoo evaluation inference parts distributions nn diffusion flow",
    "api": BELOW_API,
    "cli": "api report cli_options cli_criticism cli_draw",
    "cli_criticism": "api report cli_options",
    "cli_draw": "api report cli_options",
    "cli_options": "",
    "__init__": "api zoo",
}
ANNDATA = {"data", "api", "simulate", "report"}  # who may know of it


def imported(path, package):
    """Layers of ours and foreign packages that a file imports, at any depth of it."""
    here = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from (base + [alias.name] for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)


def crossings(package):
    """`layer -> layer` of each import that the table does not allow."""
    layers = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    for path in sorted(package.rglob("*.py")):
        layer = path.relative_to(package).with_suffix("").parts[0]
        for name in imported(path, package):
            if name[0] == package.name:
                target = name[1] if len(name) > 1 and name[1] in layers else "__init__"
                if target != layer and target not in ALLOWED[layer].split():
                    yield f"{layer} -> {target}"
            elif name[0] in ("anndata", "scanpy") and layer not in ANNDATA:
                yield f"{layer} -> {name[0]}"


def test_layers_import_downwards_only():
    assert list(crossings(PACKAGE)) == []


PLANTED = {
    "models/vae.py": ("from ..guides import VAEGuide", "models -> guides"),
    "guides/vae.py": ("from ..models.vae import VAE", "guides -> models"),
    "data/read.py": ("import pgm_expr.nn", "data -> nn"),
    "report/pages.py": ("from .. import zoo", "report -> zoo"),
    "evaluation/judge.py": ("def f():\n    from anndata import AnnData", "evaluation -> anndata"),
    "parts/priors.py": ("from pgm_expr import inference", "parts -> inference"),
    "inference/fit.py": ("from ..zoo import Story", "inference -> zoo"),
    "zoo.py": ("from . import api", "zoo -> api"),
    "cli_options.py": ("from . import api", "cli_options -> api"),
    "api/run.py": ("from ..cli import main", "api -> cli"),
    "simulate.py": ("from pgm_expr import fit", "simulate -> __init__"),
}


@pytest.mark.parametrize("file", PLANTED)
def test_a_planted_crossing_is_found(file, tmp_path):
    line, crossing = PLANTED[file]
    package = shutil.copytree(PACKAGE, tmp_path / "pgm_expr")
    with (package / file).open("a") as text:
        text.write(f"\n{line}\n")
    assert list(crossings(package)) == [crossing]
