"""Commands up to a fitted run: demo, zoo, new, data, fit, compare."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import api, report
from .judge import show_figures
from .options import (
    Columns,
    Data,
    Device,
    Epochs,
    Names,
    Numbers,
    Options,
    Overwrite,
    Seed,
    SplitSeed,
    given,
    list_of,
    numbers_of,
    options_of,
    out,
    reads_data,
)

app = typer.Typer()
Story = Annotated[
    str, typer.Option(help="A name from `pgm-expr zoo`, or the .py file of a user-defined story.")
]


@app.command()
def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path(
        "runs/demo"
    ),
    overwrite: Overwrite = False,
    epochs: Epochs = None,
    seed: Seed = 0,
    split_seed: SplitSeed = 0,
) -> None:
    """Train the story vae on 700 real cells and evaluate it on held-out ones."""
    out.print("Data: pbmc68k_reduced, 10x UMI counts that ship inside scanpy.")
    run = api.fit(
        "pbmc68k_reduced",
        "vae",
        labels_key="bulk_labels",
        out=out_folder,
        overwrite=overwrite,
        seed=seed,
        split_seed=split_seed,
        **given(epochs=epochs),
    )
    _print_fit(run, out_folder)
    collapse = show_figures(run)
    for name, picture in run.pictures().items():
        run.keep(name, picture)
    out.print(f"Open {out_folder}/training.png, latent.png, metrics.json, history.csv.")
    if collapse:
        raise api.PosteriorCollapse(collapse)


@app.command()
def zoo(
    show: Annotated[
        str | None, typer.Option(help="Print the source of this story and of its guide.")
    ] = None,
) -> None:
    """List stories, parts and objectives, or print a story."""
    if show is None:
        out.print(report.zoo_page(api.STORIES, api.PARTS, api.OBJECTIVES, api.REFUSED))
        return
    story = api.story(show)
    for half in (story.model, story.guide):
        print(inspect.getsource(sys.modules[half.__module__]))


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .py file to write.")],
    origin: Annotated[str, typer.Option("--from", help="The story to copy.")] = "vae",
) -> None:
    """Write a story as one file, model and guide, to edit and pass as --story FILE."""
    api.new_story(file, origin)
    out.print(f"Wrote {file}. Next: pgm-expr fit DATA --story {file} --out RUN")


@app.command()
def data(file: Data) -> None:
    """Describe a file or data set: kinds of values, layers, columns of obs."""
    print(api.describe(api.load_dataset(file)))


@app.command()
@reads_data
def fit(
    file: Data,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    story: Story = "vae",
    columns: Columns = None,
    objective: Annotated[str | None, typer.Option(help="elbo, iwae-10, renyi-0.5-10, ...")] = None,
    epochs: Epochs = None,
    split_seed: SplitSeed = 0,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
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
        seed=seed,
        split_seed=split_seed,
        **(columns or {}),
        **given(epochs=epochs),
        **options_of(options),
    )
    _print_fit(run, out_folder)
    out.print(f"Next: pgm-expr evaluate {out_folder}")


@app.command()
@reads_data
def compare(
    file: Data,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")],
    stories: Names = "vae",
    objectives: Names = "",
    betas: Numbers = "1",
    likelihoods: Names = "",
    priors: Names = "",
    posteriors: Names = "",
    splits: Annotated[int, typer.Option(min=1, help="Number of splits into train and test.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds per variant and split.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Maximum number.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws K of the bound, also at 4 K.")] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Fits in parallel.")] = 1,
    columns: Columns = None,
    split_seed: SplitSeed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    options: Options = None,
) -> None:
    """Fit every combination to the same cells and rank them; the same command resumes it."""
    done = api.compare(
        file,
        list_of(stories),
        out=out_folder,
        objectives=list_of(objectives),
        betas=numbers_of("--betas", betas),
        likelihoods=list_of(likelihoods),
        priors=list_of(priors),
        posteriors=list_of(posteriors),
        splits=splits,
        seeds=seeds,
        draws=draws,
        jobs=jobs,
        device=device,
        overwrite=overwrite,
        split_seed=split_seed,
        **(columns or {}),
        **given(epochs=epochs),
        **options_of(options),
    )
    out.print(report.comparison_page(done.rows, done.zero_inflation, done.draws))
    out.print(f"Written to {out_folder}: comparison.csv, comparison.json, comparison.png.")


def _print_fit(run: api.Run, folder: Path) -> None:
    out.print(report.fit_page(run.notes, run.history))
    out.print(f"Run written to {folder}")
