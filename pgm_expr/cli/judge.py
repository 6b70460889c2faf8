"""Commands that judge a fitted run: evaluate, criticize, ppc, sbc, report."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import api, report
from .options import Device, JsonOut, OtherData, RunPath, StoryFile, check_json, out

app = typer.Typer()

Cells = Annotated[int, typer.Option(min=20, help="Maximum number of held-out cells to use.")]
Draws = Annotated[int, typer.Option(min=100, help="Importance draws per cell.")]


@app.command()
def evaluate(
    run_folder: RunPath,
    file: OtherData = None,
    json_file: JsonOut = None,
    refine: Annotated[
        int, typer.Option(min=0, help="Gradient steps per cell, to find the amortisation gap.")
    ] = 0,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Evaluate a run on held-out cells, or on other data, with baselines for comparison."""
    check_json(json_file)
    run = api.load(run_folder, story, device=device)
    collapse = show_figures(run, file, refine)
    if json_file is not None:
        api.write_atomically(json_file, json.dumps(run.metrics, indent=1).encode())
    if collapse:
        raise api.PosteriorCollapse(collapse)


@app.command()
def criticize(
    run_folder: RunPath,
    file: OtherData = None,
    cells: Cells = api.CELLS,
    draws: Draws = api.DRAWS,
    json_file: JsonOut = None,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Run all checks of model and guide: which pass, which fail, which were not measured."""
    check_json(json_file)
    run = api.load(run_folder, story, device=device)
    _show_checks(run.criticize(file, cells=cells, draws=draws), json_file)


@app.command()
def ppc(
    run_folder: RunPath,
    file: OtherData = None,
    cells: Cells = api.CELLS,
    json_file: JsonOut = None,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Compare counts drawn from posteriors and prior with real ones (predictive checks)."""
    check_json(json_file)
    run = api.load(run_folder, story, device=device)
    sections = ["ppc", "calibration", "two_sample"]
    _show_checks(run.criticize(file, cells=cells, sections=sections), json_file)


@app.command()
def sbc(
    run_folder: RunPath,
    cells: Cells = 2000,
    json_file: JsonOut = None,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Check the guide on cells simulated from the story (simulation-based calibration)."""
    check_json(json_file)
    run = api.load(run_folder, story, device=device)
    _show_checks(run.criticize(cells=cells, sections=["sbc"]), json_file)


@app.command("report")
def write_report(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN ...]", help="Folders that fit wrote.")
    ],
    out_file: Annotated[Path, typer.Option("--out", help="An .html file to write.")] = Path(
        "report.html"
    ),
    cells: Cells = api.CELLS,
    draws: Draws = api.DRAWS,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Write one self-contained HTML page that compares runs, verdict first."""
    api.check_out(out_file, ".html")
    loaded = (api.load(folder, story, device=device) for folder in run_folders)
    runs = [api.record(run, cells=cells, draws=draws) for run in loaded]
    api.write_atomically(out_file, api.html_report(runs).encode())
    out.print(f"Wrote {out_file}. Open it in a browser, or print it.")


def show_figures(run: api.Run, file: str | None = None, refine: int = 0) -> str | None:
    """Evaluate and print; the verdict on a collapsed posterior, None where it is in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", api.PosteriorCollapse)  # the command ends with it
        metrics = run.evaluate(file, refine=refine)
    out.print(report.metrics_page(metrics))
    return metrics["collapse"]


def _show_checks(checks: dict[str, Any], json_file: Path | None) -> None:
    if json_file is not None:
        api.write_atomically(json_file, json.dumps(checks, indent=1).encode())
    out.print(api.criticism_page(checks))
