"""Commands that draw cells or say what they would express: sample, generate, express."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import api
from .options import Conditions, Data, Device, OwnStory, RunPath, levels_of

app = typer.Typer()
out = Console(highlight=False, soft_wrap=True)


@app.command()
def sample(
    run_folder: RunPath,
    out_file: Annotated[Path, typer.Option("--out", help="An .h5ad file to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="So many cells.")] = 1000,
    condition: Conditions = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Draw new cells from the story, without any cell given: counts in X."""
    api.check_out(out_file)
    run = api.load(run_folder, story, device=device)
    drawn = run.sample(n, condition=levels_of(condition or []), seed=seed)
    api.write_h5ad(drawn, out_file)
    out.print(
        f"Wrote {out_file}: {drawn.n_obs} drawn cells x {drawn.n_vars} genes"
        f"{_where(condition)}; median total {drawn.obs['library'].median():,.0f}."
    )


@app.command()
def generate(
    run_folder: RunPath,
    out_file: Annotated[Path, typer.Option("--out", help="An .h5ad file to write.")],
    by: Annotated[
        str, typer.Option("--with", help="prior, diffusion, flow, cnf or matching.")
    ] = "diffusion",
    n: Annotated[int, typer.Option("--n", min=1, help="So many cells.")] = 1000,
    condition: Conditions = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Weight of the condition, diffusion and matching; 1 as learnt."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Draw cells whose states a generator learnt from posteriors; it is trained on first use."""
    api.check_out(out_file)
    run = api.load(run_folder, story, device=device)
    how = {"guidance": guidance, "steps": steps}
    drawn = run.generate(
        n,
        by=by,
        condition=levels_of(condition or []),
        seed=seed,
        **{name: value for name, value in how.items() if value is not None},
    )
    api.write_h5ad(drawn, out_file)
    out.print(
        f"Wrote {out_file}: {drawn.n_obs} cells x {drawn.n_vars} genes by {by}"
        f"{_where(condition)}; median library {drawn.obs['library'].median():,.0f}."
    )


@app.command("learn-prior")
def learn_prior(
    run_folder: RunPath,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new run.")],
    prior: Annotated[str, typer.Option(help="flow or mog.")] = "flow",
    steps: Annotated[int, typer.Option(min=1, help="Of so many minibatches.")] = api.PRIOR_STEPS,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Swap a run's prior for one that learns where its posteriors are; the rest stays."""
    run = api.load(run_folder, story, device=device)
    api.RunFolder(out_folder).refuse_unless_free(run.notes, overwrite)
    new = run.learn_prior(prior, steps=steps)
    api.RunFolder(out_folder).begin(new.notes, overwrite=True)
    new.save(out_folder)
    out.print(f"Run written to {out_folder}. Next: pgm-expr evaluate {out_folder}")


@app.command()
def express(
    run_folder: RunPath,
    file: Data,
    out_file: Annotated[Path, typer.Option("--out", help="An .h5ad file to write.")],
    condition: Conditions = None,
    library: Annotated[float, typer.Option(help="Total counts that all cells are at.")] = 1e4,
    story: OwnStory = None,
    device: Device = "auto",
) -> None:
    """Write what the cells would express, all set to the conditions: a layer of expected counts.

    In the genes of the run. Those that DATA lack are filled: zero in X, expected in the layer.
    """
    api.check_out(out_file)
    run = api.load(run_folder, story, device=device)
    levels = levels_of(condition or [])
    found = run.express(api.load_dataset(file), condition=levels, library=library)
    api.write_h5ad(found, out_file)
    (layer,) = found.layers
    out.print(
        f"Wrote {out_file}: layers['{layer}'], {found.n_obs} cells x {found.n_vars} genes"
        f"{_where(condition)} at library {library:,g}."
    )


def _where(condition: list[str] | None) -> str:
    return f" with {', '.join(condition)}" if condition else ""
