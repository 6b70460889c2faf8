"""Commands that draw cells, and those that change how a run draws: guide and prior."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import api
from .options import (
    Conditions,
    Device,
    H5adOut,
    Number,
    Overwrite,
    RunOut,
    RunPath,
    Seed,
    StoryFile,
    given,
    levels_of,
    out,
    support_line,
    with_levels,
)

app = typer.Typer()


@app.command()
def sample(
    run_folder: RunPath,
    out_file: H5adOut,
    n: Number = 1000,
    condition: Conditions = None,
    seed: Seed = 0,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Draw new cells from the prior predictive distribution: counts in X."""
    api.check_out(out_file)
    levels = levels_of(condition)
    run = api.load(run_folder, story, device=device)
    drawn = run.sample(n, condition=levels, seed=seed)
    api.write_h5ad(drawn, out_file)
    out.print(
        f"Wrote {out_file}: {drawn.n_obs} drawn cells x {drawn.n_vars} genes"
        f"{with_levels(levels)}; median total {drawn.obs['library'].median():,.0f}."
        f"{support_line(drawn.uns[run.prefix])}"
    )


@app.command()
def generate(
    run_folder: RunPath,
    out_file: H5adOut,
    by: Annotated[
        str, typer.Option("--with", help="prior, diffusion, flow, cnf or matching.")
    ] = "diffusion",
    n: Number = 1000,
    condition: Conditions = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Weight of the condition (diffusion, matching); 1 is unweighted."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.")] = None,
    seed: Seed = 0,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Draw new cells from a generator that is trained on the posteriors at first use."""
    api.check_out(out_file)
    levels = levels_of(condition)
    run = api.load(run_folder, story, device=device)
    drawn = run.generate(
        n, by=by, condition=levels, seed=seed, **given(guidance=guidance, steps=steps)
    )
    api.write_h5ad(drawn, out_file)
    out.print(
        f"Wrote {out_file}: {drawn.n_obs} cells x {drawn.n_vars} genes by {by}"
        f"{with_levels(levels)}; median library {drawn.obs['library'].median():,.0f}."
        f"{support_line(drawn.uns[run.prefix])}"
    )


@app.command()
def sleep(
    run_folder: RunPath,
    out_folder: RunOut,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = api.SLEEP_STEPS,
    overwrite: Overwrite = False,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Recalibrate a run's guide on cells simulated from its story; the model does not change."""
    run = api.load(run_folder, story, device=device)
    folder = api.RunFolder(out_folder)
    folder.refuse_unless_free(run.notes, overwrite)
    run.sleep(steps)
    folder.begin(run.notes, overwrite=True)
    run.save(out_folder)
    figures = run.notes["sleep"]
    out.print(
        f"Validation ELBO {figures['validation_before']:.2f} before, "
        f"{figures['validation_after']:.2f} after, nats per cell.\n"
        f"Run written to {out_folder}. Next: pgm-expr sbc {out_folder}"
    )


@app.command("learn-prior")
def learn_prior(
    run_folder: RunPath,
    out_folder: RunOut,
    prior: Annotated[str, typer.Option(help="flow, or mog (mixture of Gaussians).")] = "flow",
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = api.PRIOR_STEPS,
    overwrite: Overwrite = False,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Replace a run's prior by one fitted to its posteriors; decoder and guide do not change."""
    run = api.load(run_folder, story, device=device)
    folder = api.RunFolder(out_folder)
    folder.refuse_unless_free(run.notes, overwrite)
    better = run.learn_prior(prior, steps=steps)
    folder.begin(better.notes, overwrite=True)
    better.save(out_folder)
    out.print(f"Run written to {out_folder}. Next: pgm-expr evaluate {out_folder}")
