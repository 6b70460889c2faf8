"""Fit a story to data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import inference, zoo
from ..data import ARGUMENTS, Encoding, epoch, sweep
from ..inference import Plan
from ..inference.progress import bar
from ..inference.threads import few_threads
from ..zoo import Story
from .assemble import assemble
from .fitted import SWEEP, Fitted
from .folder import RunFolder
from .formats import FORMAT
from .simulated_covariates import population
from .table import Table, prepare

if TYPE_CHECKING:
    from anndata import AnnData

STEPS, FEWEST, MOST = 6_000, 50, 1_000  # default steps; fewest and most epochs they make


def fit(
    data: AnnData | str | Path,
    story: str | Path | Story = "vae",
    *,
    layer: str | None = None,
    labels_key: str | None = None,
    batch_key: str | None = None,
    categorical_covariate_keys: Sequence[str] = (),
    continuous_covariate_keys: Sequence[str] = (),
    unlabeled_category: str | None = None,
    perturbation_key: str | None = None,
    control: str | None = None,
    target_key: str | None = None,
    gene_sets: Mapping[str, Sequence[str]] | str | Path | None = None,
    donor_key: str | None = None,
    split_key: str | None = None,
    min_cells: int = 0,
    n_top_genes: int | None = None,
    objective: str | None = None,
    split_seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_seconds: float = 10.0,
    **options: Any,
) -> Fitted:
    """Train a story on raw counts, or on log values where its likelihood takes them.

    Parameters
    ----------
    data
        AnnData in memory, a file (.h5ad, 10x .h5 or mtx folder, .csv, .tsv), or a data set's name.
    story
        A story's name (`pgm-expr zoo` lists them), a Python file that holds a user-defined
        `story` (`pgm-expr new` writes one), or a `Story`.
    layer
        Where the counts are: None for X, "raw", or a layer's name.
    labels_key, unlabeled_category
        Column of obs with labels, and its level for cells without one; a missing value counts as
        unlabelled too. If fewer than half of the cells outside the test set are labelled, labelled
        validation cells move to the training set, unless `donor_key` is given. Validation and
        test cells are evaluated without labels and targets.
    batch_key, categorical_covariate_keys, continuous_covariate_keys
        Columns of obs that the story is conditioned on.
    perturbation_key, control
        Column of obs with the perturbations of each cell, combinations as `A+B`, and its level for
        cells without one.
    target_key
        Column of obs with a number to predict; it may be missing for some cells.
    donor_key
        Column of obs with the donor or sample of each cell, the unit of replication: donors stay
        whole in the split. `split_key` is its alias.
    gene_sets
        The genes of each set by its name, or a .gmt file. Sets with fewer than three modelled
        genes are left out.
    min_cells, n_top_genes
        Keep genes detected in that many cells, then that many highly variable ones (seurat_v3);
        both are chosen on the raw counts of cells outside the test set.
    objective
        `elbo`, `trace`, `mean-field`, `iwae-10`, `renyi-0.5-10`, `iwae-10-dreg`; that of
        the story by default.
    split_seed
        Seed of the split into training (72%), validation (8%) and test cells (20%).
    device
        `auto` (CUDA where present), `cpu`, `cuda`, ...
    out, overwrite, checkpoint_seconds
        Folder of the run. An unfinished run with the same settings there is resumed exactly; a
        finished one raises an error unless `overwrite`. A checkpoint is written every
        `checkpoint_seconds`.
    progress
        Show a bar on stderr.
    options
        Fields of `Plan` (`epochs`, `seed`, `batch_size`, `beta`, `free_bits`, ...) and options of
        the story (`latent=20`, `likelihood="zinb"`). With `epochs=0` it is not trained: its draws
        are its prior predictive distribution.

    Returns
    -------
    The run: `model`, `guide`, `history`, `notes`, and the methods of `Run`.

    Raises
    ------
    ValueError
        For data that the story cannot take and for unknown names, before anything is written.
    FloatingPointError
        Where training diverges; the message names site, parameter, cells and genes.

    Examples
    --------
    >>> run = pgm_expr.fit(adata, "vae", labels_key="cell_type", epochs=2, progress=False)
    >>> [row["epoch"] for row in run.history]
    [0, 1]
    """
    given = locals()
    _, spec = zoo.find_story(story)
    _, story_options = _separate(options, spec)
    table = prepare(
        data,
        {name: given[name] for name in ARGUMENTS},
        layer=layer,
        takes=zoo.takes(spec, story_options),
        split_seed=split_seed,
        min_cells=min_cells,
        n_top_genes=n_top_genes,
        gene_sets=gene_sets,
    )
    return fit_table(
        table,
        spec if spec.own else story,
        objective=objective,
        device=device,
        out=out,
        overwrite=overwrite,
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
        **options,
    )


def fit_table(
    table: Table,
    story: str | Path | Story,
    *,
    objective: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    checkpoint_seconds: float = 10.0,
    **options: Any,
) -> Fitted:
    """`fit` on a table that is prepared already: the same cells and split for several fits."""
    name, spec = zoo.find_story(story)
    settings, options = _separate(options, spec)
    plan = make_plan(settings, len(table.split.train))
    why = zoo.refusal(spec, objective, options, plan.free_bits)
    if why:
        raise ValueError(f"{why}. Choose another objective, or change that option or story.")
    zoo.check_entries(spec, table.cells.columns, Encoding.requires())
    notes = {
        "format": FORMAT,
        "story": name,
        "own": spec.own,
        "options": options,
        "objective": objective,
        "plan": asdict(plan),
        "dims": table.dims,
        **table.notes(),
        "population": population(table),
    }
    run = assemble(spec, notes, device, seed=plan.seed, table=table)
    run.folder = RunFolder(out) if out else None
    rows = train(run, plan, overwrite=overwrite, checkpoint_seconds=checkpoint_seconds)
    run.history = list(bar(rows, plan.epochs, show=progress and plan.epochs > 0))
    if run.folder:
        run.save(run.folder.path)
    if plan.epochs:
        run.warn_of_collapse()
    return run


def train(
    run: Fitted,
    plan: Plan,
    *,
    overwrite: bool = False,
    checkpoint_seconds: float = 10.0,
) -> Iterator[dict]:
    """Train an assembled run in place, to yield the rows of its history.

    Invalid settings raise ValueError in this call, before the first row is requested.
    """
    cells, split = run.training_cells(), run.training_table().split
    objective = run.objective(cells=len(split.train))
    some = cells.rows(split.train[:2])
    inference.check_story(objective.free_bits(plan.free_bits), some)
    zoo.check_unit(run.story, objective, some)
    if run.folder:
        run.folder.refuse_unless_free(run.notes, overwrite)
        run.folder.begin(run.notes, overwrite)
    rows = inference.fit(
        objective,
        lambda order: epoch(cells, split.train, plan.batch_size, order),
        lambda: sweep(cells.withheld(), split.validation, SWEEP),
        plan,
        folder=run.folder.path if run.folder else None,
        checkpoint_seconds=checkpoint_seconds,
    )
    return _in_few_threads(rows, plan.batch_size * len(cells.genes))


def _in_few_threads(rows: Iterator[dict], entries: int) -> Iterator[dict]:
    with few_threads(entries):
        yield from rows


def make_plan(settings: Mapping[str, Any], cells: int) -> Plan:
    """The plan of a fit: epochs for about `STEPS` steps in all, unless they are given."""
    plan = Plan(**{name: value for name, value in settings.items() if value is not None})
    epochs = min(max(STEPS * min(plan.batch_size, cells) // cells, FEWEST), MOST)
    return plan if settings.get("epochs") is not None else replace(plan, epochs=epochs)


def _separate(options: Mapping[str, Any], story: Story) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `Plan`, and options of the story, with the names of parts given as classes."""
    training = {field.name for field in fields(Plan)}
    settings = {name: value for name, value in options.items() if name in training}
    own = {name: value for name, value in options.items() if name not in training}
    for edge in zoo.PARTS:
        if edge in own:
            own[edge] = zoo.part_name(edge, own[edge])
    zoo.check_options(story, own)
    return settings, own
