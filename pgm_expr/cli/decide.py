"""Commands about given cells: embed, predict, express."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import api, report
from .options import (
    Conditions,
    Data,
    Device,
    H5adOut,
    RunPath,
    StoryFile,
    levels_of,
    out,
    support_line,
    with_levels,
)

app = typer.Typer()


@app.command()
def embed(
    run_folder: RunPath,
    file: Data,
    out_file: H5adOut,
    story: StoryFile = None,
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
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Predict the label or target of each cell: a table (.csv), or columns of obs (.h5ad)."""
    api.check_out(out_file, ".csv", ".h5ad")
    run = api.load(run_folder, story, device=device)
    adata = api.load_dataset(file)
    table = run.predict(adata)
    if out_file.suffix == ".csv":
        text = table.to_csv(index_label="cell", float_format="%.6g")
        api.write_atomically(out_file, text.encode())
    else:
        api.write_h5ad(adata, out_file)
    out.print(f"Wrote {out_file}: {report.prediction_line(table, run.encoding.labels)}")


@app.command()
def express(
    run_folder: RunPath,
    file: Data,
    out_file: H5adOut,
    condition: Conditions = None,
    library: Annotated[float, typer.Option(help="Total counts of every cell.")] = 1e4,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Write expected counts as a layer, with the conditions set for all cells.

    The output has the genes of the run. Genes missing from DATA are zero in X and have expected
    counts in the layer.
    """
    api.check_out(out_file)
    run = api.load(run_folder, story, device=device)
    levels = levels_of(condition)
    found = run.express(api.load_dataset(file), condition=levels, library=library)
    api.write_h5ad(found, out_file)
    out.print(
        f"Wrote {out_file}: layers['{run.prefix}'], {found.n_obs} cells x {found.n_vars} genes"
        f"{with_levels(levels)} at library {library:,g}.{support_line(found.uns[run.prefix])}"
    )


@app.command()
def differential(
    run_folder: RunPath,
    file: Data,
    groupby: Annotated[str, typer.Option(help="A column of obs.")],
    out_file: Annotated[Path, typer.Option("--out", help="A .csv file to write.")],
    group1: Annotated[
        str | None, typer.Option(help="A level; each level in turn by default.")
    ] = None,
    group2: Annotated[
        str | None, typer.Option(help="The level to compare with; all other cells by default.")
    ] = None,
    replicate: Annotated[
        str, typer.Option(help="Column of replicates such as donors, or `cells`.")
    ] = "auto",
    threshold: Annotated[float, typer.Option(min=0, help="Least |log2 fold change|.")] = 0.0,
    rate: Annotated[
        float, typer.Option(min=0, max=1, help="Expected share of false calls.")
    ] = 0.05,
    story: StoryFile = None,
    device: Device = "auto",
) -> None:
    """Write log2 fold changes between groups of cells, with intervals and calls."""
    api.check_out(out_file, ".csv")
    run = api.load(run_folder, story, device=device)
    table = run.differential_expression(
        api.load_dataset(file),
        groupby,
        group1,
        group2,
        replicate_key=None if replicate == "cells" else replicate,
        threshold=threshold,
        rate=rate,
    )
    text = table.to_csv(index_label="gene", float_format="%.6g")
    api.write_atomically(out_file, text.encode())
    notes = table.attrs["pgm_expr"]
    out.print(
        f"Wrote {out_file}: {int(table['called'].sum())} of {len(table)} genes called at a false "
        f"sign rate of {rate:g}; about {notes['estimand']} (replicates: {notes['replicates']})."
    )
