"""Who may import whom: the table of the design, and that no files import in a circle."""

import ast
from pathlib import Path

import pytest

import pgm_expr

PACKAGE = Path(pgm_expr.__file__).parent
STORY = "parts distributions nn"
BELOW = "data nn distributions parts models guides inference diffusion flow simulate predict zoo"
EVERYTHING = f"{BELOW} evaluation runs tasks criticism comparison report plots"
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
    "predict": "inference distributions nn",
    "evaluation": "inference distributions nn predict",
    "zoo": "models guides parts inference distributions nn flow",
    "runs": BELOW.replace(" simulate", ""),
    "tasks": f"{BELOW} runs evaluation",
    "criticism": f"{BELOW} runs tasks evaluation report",
    "comparison": f"{BELOW} runs tasks evaluation report",
    "plots": "report",
    "api": EVERYTHING,
    "cli": "api report plots",
    "__init__": "api zoo",
}
ANNDATA = {
    "report",
    "data",
    "runs",
    "tasks",
    "criticism",
    "comparison",
    "simulate",
    "api",
}  # who may know it


def read(planted=None):
    """The syntax tree of each file of the package, by its path; `planted` adds a line to one."""
    paths = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    trees = {path: TREES.get(path) or ast.parse((PACKAGE / path).read_text()) for path in paths}
    TREES.update(trees)
    for file, line in (planted or {}).items():
        trees[Path(file)] = ast.parse(f"{(PACKAGE / file).read_text()}\n{line}\n")
    return trees


TREES = {}


def name_of(path):
    """The dotted name of a file below the package; of a package that of its folder."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, tree):
    """Dotted names that a file imports, those under TYPE_CHECKING and in functions too."""
    here = [PACKAGE.name, *path.parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from (base + [alias.name] for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)


def crossings(trees):
    """`layer -> layer` of each import that the table does not allow."""
    layers = {path.with_suffix("").parts[0] for path in trees}
    for path, tree in trees.items():
        layer = path.with_suffix("").parts[0]
        for name in imported(path, tree):
            if name[0] == PACKAGE.name:
                target = name[1] if len(name) > 1 and name[1] in layers else "__init__"
                if target != layer and target not in ALLOWED[layer].split():
                    yield f"{layer} -> {target}"
            elif name[0] in ("anndata", "scanpy") and layer not in ANNDATA:
                yield f"{layer} -> {name[0]}"


def arrows(trees):
    """The files of the package that each of its files imports, by dotted name."""
    known, found = {name_of(path) for path in trees}, {}
    for path, tree in trees.items():
        names = (name[1:] for name in imported(path, tree) if name[0] == PACKAGE.name)
        targets = {".".join(n) if ".".join(n) in known else ".".join(n[:-1]) for n in names}
        found[name_of(path)] = (targets & known) - {name_of(path)}
    return found


def circles(trees):
    """Files that import each other, directly or around: what is left when no end comes off."""
    left = arrows(trees)
    while True:
        targets = set().union(*left.values()) if left else set()
        ends = {file for file in left if not left[file] & left.keys() or file not in targets}
        if not ends:
            return sorted(left)
        left = {file: left[file] - ends for file in left.keys() - ends}


def test_layers_import_downwards_only():
    assert list(crossings(read())) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(read()) == []


CROSSINGS = {
    "models/vae.py": ("from ..guides import VAEGuide", "models -> guides"),
    "guides/vae.py": ("from ..models.vae import VAE", "guides -> models"),
    "data/read.py": ("import pgm_expr.nn", "data -> nn"),
    "report/pages.py": ("from .. import zoo", "report -> zoo"),
    "evaluation/judge.py": ("def f():\n    from anndata import AnnData", "evaluation -> anndata"),
    "parts/priors.py": ("from pgm_expr import inference", "parts -> inference"),
    "inference/fit.py": ("from ..zoo import Story", "inference -> zoo"),
    "predict.py": ("from . import evaluation", "predict -> evaluation"),
    "runs/fitted.py": ("from ..tasks import embed", "runs -> tasks"),
    "tasks/embed.py": ("from ..report import tables", "tasks -> report"),
    "cli/options.py": ("from ..runs.fit import fit", "cli -> runs"),
    "api.py": ("from .cli.main import main", "api -> cli"),
    "simulate/draw.py": ("from pgm_expr import fit", "simulate -> __init__"),
}


@pytest.mark.parametrize("file", CROSSINGS)
def test_a_planted_crossing_is_found(file):
    line, crossing = CROSSINGS[file]
    assert list(crossings(read({file: line}))) == [crossing]


CIRCLES = {
    "runs/table.py": "from .fitted import Fitted",
    "runs/folder.py": "if TYPE_CHECKING:\n    from .load import load",
    "inference/tracing.py": "def f():\n    from .objective import Objective",
}


@pytest.mark.parametrize("file", CIRCLES)
def test_a_planted_circle_is_found(file):
    assert name_of(Path(file)) in circles(read({file: CIRCLES[file]}))
