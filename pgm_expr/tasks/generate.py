"""New cells from generators trained on the posteriors of a run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import zoo
from ..data import sweep
from ..inference import seeded
from ..inference.progress import endless
from ..inference.threads import few_threads
from ..runs.fitted import SWEEP
from ..runs.generators import GENERATORS, Learnt
from ..runs.simulated_covariates import as_cells, draw_covariates, missing_entries
from ..runs.states import States
from .sample import sample
from .support import with_support

if TYPE_CHECKING:
    from anndata import AnnData

    from ..runs.fitted import Fitted

PRIOR = "prior"
Run = TypeVar("Run", bound="Fitted")


def generate(
    run: Fitted,
    n: int,
    *,
    by: str = "diffusion",
    condition: Mapping[str, object] | None = None,
    library: np.ndarray | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: object,
) -> AnnData:
    """Draw new cells whose states come from a generator trained on the posteriors.

    A generator is trained on first use, on the cells outside the test set, and kept with the run
    (in its folder, where it has one). States include the library.

    Parameters
    ----------
    n
        Number of cells.
    by
        `prior` (that of the story, as `sample`), `diffusion`, `flow`, `cnf` or `matching`.
    condition
        Level by column of obs, labels included. Other columns are drawn from the training cells.
    library
        Expected total counts of each cell, (n,); drawn with the states by default.
    seed
        Seed of the draws.
    progress
        Show training progress on stderr.
    options
        Options of the generator's `sample`, such as `steps=20` or `guidance=1.5` (diffusion).

    Returns
    -------
    AnnData of integer counts in X, (n, G), with `obs["library"]` and `obsm["X_generated"]`, the
    states. `uns["pgm_<story>"]` holds story, n, seed and `support`, the number of training cells
    of the condition, with a warning where they are fewer than 50.

    Raises
    ------
    ValueError
        For unknown columns, levels and options, and a story with discrete latents.

    Examples
    --------
    >>> run.learn("diffusion", steps=2, progress=False).generate(3).shape
    (3, 12)
    """
    if by == PRIOR:
        return sample(run, n, condition=condition, library=library, seed=seed)
    draw_covariates(run.notes, 1, condition or {}, np.random.default_rng(seed))  # checks names
    _check_options(by, options)
    if by not in run.generators:
        learn(run, by, progress=progress)
    learnt = run.generators[by]
    _, covariates = draw_covariates(run.notes, n, condition or {}, np.random.default_rng(seed))
    batch = {k: torch.as_tensor(v, device=run.device) for k, v in covariates.items()}
    counts, states = draw_given(run, learnt, n, batch, library=library, seed=seed, **options)
    totals = learnt.states.library(states).cpu().numpy()
    drawn = as_cells(run.notes, counts.numpy(), totals, condition or {})
    drawn.obsm["X_generated"] = states.cpu().numpy()
    return with_support(run, drawn, condition or {}, seed)


def learn(
    run: Run, by: str, *, steps: int | None = None, seed: int = 0, progress: bool = True
) -> Run:
    """Train or retrain a generator; `generate` does it on first use.

    Parameters
    ----------
    by
        `diffusion`, `flow`, `cnf` or `matching`.
    steps
        Training steps; None for the generator's default.
    seed
        Seed of initial weights and noise.
    progress
        Show training progress on stderr.

    Returns
    -------
    The run itself, which keeps the generator (in its folder, where it has one).

    Raises
    ------
    ValueError
        For an unknown generator, a story of log values, and one with discrete latents.

    Examples
    --------
    >>> sorted(run.learn("flow", steps=2, progress=False).generators)[-1]
    'flow'
    """
    learnt = train_generator(run, by, steps=steps, seed=seed, progress=progress)
    run.generators[by] = learnt
    run.keep_generator(by)
    return run


def train_generator(
    run: Fitted,
    name: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    among: np.ndarray | None = None,
    progress: bool = False,
) -> Learnt:
    """Train a generator on the posteriors of cells `among`, by default all but the test set."""
    make = zoo.pick("generator", name, GENERATORS)
    run.require_states(name)
    table, cells = run.training_table(), run.training_cells()
    if run.takes != "counts":
        raise ValueError(
            f"the story {run.notes['story']} models log values, and generators give counts. "
            "Fit a story of counts."
        )
    known = table.split.development if among is None else among
    with seeded(seed):  # sites that all cells share are drawn once
        states = States.of(run.model, run.guide, next(run.unlabelled(cells, known[:2])))
    given = run.encoding.indicators(cells.rows(known))
    size, width = states.size, 0 if given is None else given.shape[1]
    with seeded(seed):
        made = make(size, width).to(run.device)

    def posterior() -> Tensor:
        return states.draw(run.guide, sweep(cells.withheld(), known, SWEEP))

    budget = {} if steps is None else {"steps": steps}
    with few_threads(0):
        rows = made.fit(posterior, given, seed=seed, **budget)
        losses = [*endless(rows, what=f"training of {name}: epoch", show=progress)]
    notes = {
        "name": name,
        "size": size,
        "conditions": width,
        "widths": states.widths,
        "steps": steps,
        "seed": seed,
        "loss": losses[-1],
    }
    return Learnt(made.eval(), states, notes)


def _check_options(name: str, options: Mapping[str, object]) -> None:
    """ValueError for an option that the generator's `sample` does not have."""
    known = inspect.signature(zoo.pick("generator", name, GENERATORS).sample).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option}. Leave it out.")


@torch.no_grad()
def draw_given(
    run: Fitted,
    learnt: Learnt,
    n: int,
    covariates: Mapping[str, Tensor],
    *,
    library: np.ndarray | None = None,
    seed: int,
    **options: object,
) -> tuple[Tensor, Tensor]:
    """Counts (n, G) and states (n, D) of cells with these encoded covariates."""
    with seeded(seed):
        given = run.encoding.indicators(covariates)
        states = learnt.generator.sample(n, given, **options)
        if library is not None:
            states = learnt.states.at_library(states, torch.as_tensor(library).to(states))
        missing = {k: torch.as_tensor(v, device=run.device) for k, v in missing_entries(n).items()}
        entries, parts = {**missing, **covariates}, []
        for at in torch.arange(n).split(SWEEP):
            rows = {key: value[at] for key, value in entries.items()}
            parts.append(learnt.states.decode(run.model, states[at], rows).cpu())
    return torch.cat(parts), states
