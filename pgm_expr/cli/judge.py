"""Commands that judge a fitted run: criticize, ppc, sbc, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .. import api
from .options import Device, OwnStory, RunPath

app = typer.Typer()
out = Console(highlight=False, soft_wrap=True)

Other = Annotated[str | None, typer.Argument(metavar="[DATA]", help="Other cells.")]
Cells = Annotated[int, typer.Option(min=20, help="Judge at most so many held-out cells.")]
Draws = Annotated[int, typer.Option(min=100, help="Importance draws of each cell.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write figures here.")]


@app.command()
def criticize(
    run_folder: RunPath,
    file: Other = None,
    cells: Cells = api.CELLS,
    draws: Draws = api.DRAWS,
    json_file: Json = None,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Ask a run everything: is the model right, is the guide right, how sure are we."""
    told = _told(run_folder, file, None, cells, draws, json_file, story, device)
    out.print(api.criticism_page(told))


@app.command()
def ppc(
    run_folder: RunPath,
    file: Other = None,
    cells: Cells = api.CELLS,
    json_file: Json = None,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Draw counts from the posteriors and the prior, and hold them against real ones."""
    sections = ["ppc", "calibration", "two_sample"]
    told = _told(run_folder, file, sections, cells, api.DRAWS, json_file, story, device)
    out.print(api.criticism_page(told))


@app.command()
def sbc(
    run_folder: RunPath,
    cells: Cells = 2000,
    json_file: Json = None,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Draw states and counts from the story, and see whether the guide finds the states."""
    told = _told(run_folder, None, ["sbc"], cells, api.DRAWS, json_file, story, device)
    out.print(api.criticism_page(told))


@app.command("report")
def write_report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN [RUN ...]")],
    out_file: Annotated[Path, typer.Option("--out", help="An .html file to write.")] = Path(
        "report.html"
    ),
    cells: Cells = api.CELLS,
    draws: Draws = api.DRAWS,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Write one page about runs, side by side, that needs no network: verdict first."""
    api.check_out(out_file, ".html")
    loaded = (api.load(folder, story, device=device) for folder in run_folders)
    runs = [api.record(run, cells=cells, draws=draws) for run in loaded]
    api.write_atomically(out_file, api.html_report(runs).encode())
    out.print(f"Wrote {out_file}. Open it in a browser, or print it.")


def _told(
    folder: Path,
    file: str | None,
    sections: list[str] | None,
    cells: int,
    draws: int,
    json_file: Path | None,
    story: str | None,
    device: str,
) -> dict[str, Any]:
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise ValueError(f"--json {json_file}: no folder {json_file.parent}. Make it first.")
    run = api.load(folder, story, device=device)
    told = run.criticize(file, cells=cells, draws=draws, sections=sections)
    if json_file is not None:
        api.write_atomically(json_file, json.dumps(told, indent=1).encode())
    return told
