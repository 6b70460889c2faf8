"""The command line: parse, call the API, print. Errors are one line on stderr, exit code 2."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .. import api, report
from . import draw, judge
from .options import (
    Data,
    Device,
    Names,
    OfData,
    Options,
    OwnStory,
    RunPath,
    as_typed,
    list_of,
    numbers_of,
    options_of,
    tells_of_data,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Generative stories of gene-expression counts in Pyro: fit, judge, embed.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    """Every command takes --debug; `main` reads it."""


@app.command()
def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path(
        "runs/demo"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    seed: int = 0,
    split_seed: int = 0,
) -> None:
    """Train the vae story on 700 real cells and judge it on held-out ones."""
    out.print("Data: pbmc68k_reduced, 10x UMI counts that ship inside scanpy.")
    run = api.fit(
        "pbmc68k_reduced",
        "vae",
        labels_key="bulk_labels",
        out=out_folder,
        overwrite=overwrite,
        **_given(epochs=epochs, seed=seed, split_seed=split_seed),
    )
    _print_fit(run, out_folder)
    _judge(run)
    for name, picture in run.pictures().items():
        run.keep(name, picture)
    out.print(f"Open {out_folder}/training.png, latent.png, metrics.json, history.csv.")


@app.command()
def zoo(
    show: Annotated[
        str | None, typer.Option(help="Print this story's page and its guide.")
    ] = None,
) -> None:
    """List stories, parts and objectives, or print a story."""
    if show is None:
        out.print(report.zoo_page(api.STORIES, api.PARTS, api.OBJECTIVES, api.REFUSED))
        return
    story = api.story(show)
    for half in (story.model, story.guide):
        print(inspect.getsource(inspect.getmodule(half)))


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .py file to write.")],
    origin: Annotated[str, typer.Option("--from", help="See `pgm-expr zoo`.")] = "vae",
) -> None:
    """Write a story as one file of your own, to edit and pass as --story FILE."""
    api.new_story(file, origin)
    out.print(f"Wrote {file}. Next: pgm-expr fit DATA --story {file} --out RUN")


@app.command()
def data(file: Data) -> None:
    """Say what is in a file or data set: kinds of values, layers, columns."""
    print(api.describe(api.load_dataset(file)))


@app.command()
@tells_of_data
def fit(
    file: Data,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    story: Annotated[
        str, typer.Option(help="See `pgm-expr zoo`, or a .py file of your own.")
    ] = "vae",
    told: OfData = None,
    objective: Annotated[str | None, typer.Option(help="elbo, iwae-10, renyi-0.5-10, ...")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="At most so many; 0 for the prior alone.")
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0)] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    options: Options = None,
) -> None:
    """Train a story on counts; the same command resumes it after an interruption."""
    run = api.fit(
        file,
        story,
        objective=objective,
        device=device,
        out=out_folder,
        overwrite=overwrite,
        **told,
        **_given(epochs=epochs, seed=seed, split_seed=split_seed, **options_of(options or [])),
    )
    _print_fit(run, out_folder)
    out.print(f"Next: pgm-expr evaluate {out_folder}")


@app.command()
def evaluate(
    run_folder: RunPath,
    file: Annotated[str | None, typer.Argument(metavar="[DATA]", help="Other cells.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures here.")] = None,
    refine: Annotated[
        int, typer.Option(min=0, help="Steps on each cell's own posterior: amortisation gap.")
    ] = 0,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Judge a run on held-out cells, or on other data, beside baselines."""
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise ValueError(f"--json {json_file}: no folder {json_file.parent}. Make it first.")
    run = api.load(run_folder, story, device=device)
    _judge(run, file, json_file, refine)


@app.command()
def sleep(
    run_folder: RunPath,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new run.")],
    steps: Annotated[int, typer.Option(min=1, help="Of so many minibatches.")] = api.SLEEP_STEPS,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Train a run's guide further on cells that its story draws: surer states, same story."""
    run = api.load(run_folder, story, device=device)
    api.RunFolder(out_folder).refuse_unless_free(run.notes, overwrite)
    run.sleep(steps)
    api.RunFolder(out_folder).begin(run.notes, overwrite=True)
    run.save(out_folder)
    told = run.notes["sleep"]
    out.print(
        f"Bound of validation cells {told['validation_before']:.2f} before, "
        f"{told['validation_after']:.2f} after, nats per cell.\n"
        f"Run written to {out_folder}. Next: pgm-expr sbc {out_folder}"
    )


@app.command()
def embed(
    run_folder: RunPath,
    file: Data,
    out_file: Annotated[Path, typer.Option("--out", help="An .h5ad file to write.")],
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Write the data with the latent state of each cell in obsm."""
    api.check_out(out_file)
    run = api.load(run_folder, story, device=device)
    adata = api.load_dataset(file)
    latent = run.embed(adata)
    api.write_h5ad(adata, out_file)
    out.print(f"Wrote {out_file}: obsm['{run.key}'], {latent.shape[0]} cells x {latent.shape[1]}.")


@app.command()
def predict(
    run_folder: RunPath,
    file: Data,
    out_file: Annotated[Path, typer.Option("--out", help="A .csv or .h5ad file to write.")],
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Say how likely each label is of each cell, or which number: .csv a table, .h5ad in obs."""
    api.check_out(out_file, ".csv", ".h5ad")
    run = api.load(run_folder, story, device=device)
    adata = api.load_dataset(file)
    table = run.predict(adata)
    if out_file.suffix == ".csv":
        api.write_atomically(
            out_file, table.to_csv(index_label="cell", float_format="%.6g").encode()
        )
    else:
        api.write_h5ad(adata, out_file)
    out.print(f"Wrote {out_file}: {report.prediction_line(table, run.encoding.labels)}")


@app.command()
@tells_of_data
def compare(
    file: Data,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")],
    stories: Names = "vae",
    objectives: Names = "",
    betas: Names = "1",
    likelihoods: Names = "",
    priors: Names = "",
    posteriors: Names = "",
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each variant.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="K of the held-out bound, and 4 K.")] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Fits at a time.")] = 1,
    told: OfData = None,
    split_seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace a comparison that is there.")] = False,
    options: Options = None,
) -> None:
    """Fit every combination to the same cells and rank them; repeated, it goes on where it was."""
    done = api.compare(
        file,
        list_of(stories),
        out=out_folder,
        objectives=list_of(objectives),
        betas=numbers_of("--betas", betas),
        likelihoods=list_of(likelihoods),
        priors=list_of(priors),
        posteriors=list_of(posteriors),
        seeds=seeds,
        draws=draws,
        jobs=jobs,
        device=device,
        overwrite=overwrite,
        split_seed=split_seed,
        **told,
        **_given(epochs=epochs, **options_of(options or [])),
    )
    out.print(report.comparison_page(done.rows, done.zero_inflation, done.draws))
    out.print(f"Written to {out_folder}: comparison.csv, comparison.json, comparison.png.")


app.add_typer(judge.app)
app.add_typer(draw.app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the console script `pgm-expr`. Always ends in SystemExit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped. The same command goes on where it was.", 130)
    except Exception as error:
        if debug:
            raise
        _fail(_sentence(error), 2)


def _fail(message: str, code: int) -> None:
    if message:  # empty where the help was printed instead
        err.print(f"[bold red]error:[/] {_plain(message)}")
    sys.exit(code)


def _sentence(error: Exception) -> str:
    """One line on an error; what we did not foresee says so."""
    if hasattr(error, "format_message"):
        return error.format_message()
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        return as_typed(str(error))
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _plain(message: str) -> str:
    return " ".join(message.split()).replace("[", r"\[")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    err.print(f"[yellow]warning:[/] {_plain(as_typed(str(message)))}")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _print_fit(run: api.Run, folder: Path) -> None:
    out.print(report.fit_page(run.notes, run.history))
    out.print(f"Run written to {folder}")


def _judge(
    run: api.Run,
    file: str | None = None,
    json_file: Path | None = None,
    refine: int = 0,
) -> None:
    """Evaluate, print, write; exit code 1 where the posterior has collapsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", api.PosteriorCollapse)  # said below, in red
        metrics = run.evaluate(file, refine=refine)
    if json_file is not None:
        api.write_atomically(json_file, json.dumps(metrics, indent=1).encode())
    out.print(report.metrics_page(metrics))
    if metrics["collapse"]:
        _fail(metrics["collapse"], 1)
