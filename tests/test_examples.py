"""Every example runs and prints the figures that its docstring describes."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
HOME = (
    "pgm_expr pgm_expr.data pgm_expr.evaluation pgm_expr.evaluation.inference_data "
    "pgm_expr.guides pgm_expr.models pgm_expr.nn pgm_expr.parts pgm_expr.simulate "
    "pgm_expr.diffusion pgm_expr.flow pgm_expr.tasks"
)
NUMBER = re.compile(r"-?\d+\.\d+")

ROWS = {  # the names of the lines that hold figures
    "swap_a_prior": ["normal", "mog", "vamp", "flow"],
    "swap_a_likelihood": ["poisson", "nb", "zinb", "nb-cell"],
    "compare_elbos": "elbo mean-field trace iwae-10 iwae-10-dreg renyi-0.5-10".split(),
    "break_and_cure": [
        "beta 30",
        "beta 1, reached by a warm-up",
        "beta 1, reached in four cycles",
        "beta 30 with 1 free nat a dimension",
    ],
    "dispersion_by_batch": ["vae", "by batch"],
    "hierarchical_latents": ["z_type", "z_state", "z_technical"],
    "batch_correction": ["vae", "cvae"],
    "few_labels": ["label with noise", "regression on PCA", *(f"type{i}" for i in range(5))],
    "gene_programs": ["pathways of one program", "pathways of two programs"],
    "criticism": [
        "held-out log p, nats per cell",
        "share of PITs in the central 95%",
        "zero rate, error of draws",
        "zero rate, error of other real cells",
        "genes with zero rates outside 95% of draws",
        "Pareto k, median",
        "coverage of latent states, error",
    ],
    "sampler_speed": [
        *(f"{s} {k}" for s in ("ddim", "heun", "dpm-solver++") for k in (5, 10, 20, 50)),
        "1,000 steps",
    ],
    "rare_type": ["original cells", "with copies", "with generated cells"],
    "beyond_point_estimates": [],
}
WRITES = {"criticism": r"criticism(-\w+)?\.png"}  # in the current folder; others write nothing

SAYS = dict.fromkeys(ROWS, r"heldout_elbo +heldout_iwae_4k +diff +se +tie") | {
    "swap_a_likelihood": r"^Use (NB|ZINB): ZINB is [+-]\d+\.\d+ ± \d+\.\d+ nats per held-out cell",
    "break_and_cure": r"^  (posterior collapse: KL is|the latent dimensions are in use)",
    "dispersion_by_batch": r"^dispersion of batch 0 over batch 1: \d+\.\d+ .* the truth is 4$",
    "hierarchical_latents": r"^latent +type +condition +batch$",
    "batch_correction": r"^cvae, log fold changes between batches: r = -?\d\.\d+ with the simul",
    "few_labels": r"^held-out cells +macro-F1 +accuracy +confidence +error$",
    "gene_programs": r"^inferred and simulated activities   median r \d\.\d+$",
    "sampler_speed": r"^sampler and steps +$",
    "rare_type": r"^\d+ of \d+ cells are of the rare type; 300 are added$",
    "beyond_point_estimates": r"percentile among predicted CD19\+ B: (\S+ \d\.\d+(, |$)){6}",
    "criticism": r"^poisson +1 +-\d+\.\d+ +-?\d+\.\d+ +\d+\.\d+$",
}


@pytest.fixture
def smoke(monkeypatch, capsys, tmp_path):
    """Run an example here, where its warnings are errors; the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        monkeypatch.setattr(sys, "argv", [name, "--smoke"])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_the_examples_are_these():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_prints_its_figures(name, smoke, tmp_path):
    lines = smoke(name)
    for row in ROWS[name]:
        (line,) = [line for line in lines if re.match(rf"\s*{re.escape(row)}\s\s", line)]
        assert NUMBER.search(line.replace(row, "", 1)), line
    assert not re.search(r"\b(nan|inf)\b", "\n".join(lines), re.IGNORECASE)
    assert any(re.search(SAYS[name], line) for line in lines)
    files = [path.name for path in tmp_path.iterdir()]
    assert bool(files) == (name in WRITES)
    assert all(re.fullmatch(WRITES[name], file) for file in files)


@pytest.mark.parametrize("name", ROWS)
def test_uses_only_what_is_public(name):
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    whole = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    homes = [n.module for n in whole if isinstance(n, ast.ImportFrom)]
    homes += [alias.name for n in whole if isinstance(n, ast.Import) for alias in n.names]
    ours = {home for home in homes if home.startswith("pgm_expr")}
    assert "pgm_expr" in ours and ours <= set(HOME.split())
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert not [n for n in names if n.startswith("_") and n != "__init__"]


@pytest.mark.parametrize("name", ROWS)
def test_says_its_question_first(name):
    first, blank, usage, *_ = ast.get_docstring(
        ast.parse((EXAMPLES / f"{name}.py").read_text())
    ).splitlines()
    assert first.endswith("?") and not blank
    assert usage == f"python examples/{name}.py [--smoke]"
