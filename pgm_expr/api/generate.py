"""New cells from generators that learnt a run's posteriors: whole distributions of counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import evaluation, zoo
from ..data import sweep
from ..inference import load_tensors, save_tensors, seeded
from ..tasks import GENERATORS, States, conditions
from .population import as_cells, draw_population
from .threads import few_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run

SWEEP = 512  # cells a minibatch
PRIOR = "prior"


@dataclass(frozen=True)
class Learnt:
    """A generator of a run, and how its states are read."""

    generator: nn.Module
    states: States
    notes: dict[str, Any]  # name, size, conditions, steps, last loss

    def save(self, path: Path) -> None:
        """Write weights and notes to one file."""
        tensors = {f"generator/{n}": t for n, t in self.generator.state_dict().items()}
        tensors |= {f"shared/{n}": t for n, t in self.states.shared.items()}
        save_tensors(path, tensors, self.notes)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Learnt:
        """Read back what `save` wrote."""
        tensors, notes = load_tensors(path)
        made = GENERATORS[notes["name"]](notes["size"], notes["conditions"])
        made.load_state_dict(under("generator/", tensors))
        states = States(notes["widths"], under("shared/", tensors))
        return cls(made.to(device).eval(), states, notes)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def learn(
    run: Run,
    name: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    among: np.ndarray | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Learnt:
    """Fit a generator to the posteriors of a run's cells: outside the test set, or `among`.

    For `steps` of training, or as many as that generator's `fit` takes by itself.
    """
    make = zoo.pick("generator", name, GENERATORS)
    run.reread()
    if run.notes["source"].get("takes", "counts") != "counts":
        raise ValueError(
            f"the story {run.notes['story']} is about log values, and generators give counts. "
            "Fit a story of counts."
        )
    cells = run.table.cells.to(run.device)
    known = run.table.split.development if among is None else among
    states = States.of(run.model, run.guide, next(run.unlabelled(cells, known[:2])))
    told = conditions(cells.rows(known), run.notes["dims"])
    with seeded(seed):
        made = make(states.size, 0 if told is None else told.shape[1]).to(run.device)

    def posterior() -> Tensor:
        return states.draw(run.guide, evaluation.withheld(sweep(cells, known, SWEEP)))

    with few_threads(0):
        budget = {} if steps is None else {"steps": steps}
        losses = [*progress(made.fit(posterior, told, seed=seed, **budget))]
    notes = {
        "name": name,
        "size": states.size,
        "conditions": 0 if told is None else told.shape[1],
        "widths": states.widths,
        "steps": steps,
        "seed": seed,
        "loss": losses[-1],
    }
    return Learnt(made.eval(), states, notes)


def generate(
    run: Run,
    n: int,
    *,
    by: str = "diffusion",
    condition: Mapping[str, object] | None = None,
    library: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
    **how: object,
) -> AnnData:
    """See `Run.generate`."""
    if by == PRIOR:
        return run.sample(n, condition=condition, library=library, seed=seed)
    draw_population(run.notes, 1, condition or {}, np.random.default_rng(seed))  # names checked
    _check_options(by, how)
    if by not in run.generators:
        run.generators[by] = learn(run, by, progress=progress)
    return draw(run, run.generators[by], n, condition=condition, library=library, seed=seed, **how)


def _check_options(name: str, how: Mapping[str, object]) -> None:
    """ValueError for what that generator's draws do not depend on."""
    known = inspect.signature(zoo.pick("generator", name, GENERATORS).sample).parameters
    for option in how:
        if option not in known:
            raise ValueError(f"{option} means nothing to {name}. Leave it out.")


def draw(
    run: Run,
    learnt: Learnt,
    n: int,
    *,
    condition: Mapping[str, object] | None = None,
    library: np.ndarray | None = None,
    seed: int = 0,
    **how: object,
) -> AnnData:
    """n cells of a generator: integer counts in X, states in obsm["X_generated"]."""
    _, told = draw_population(run.notes, n, condition or {}, np.random.default_rng(seed))
    batch = {k: torch.as_tensor(v, device=run.device) for k, v in told.items()}
    counts, states = draw_told(run, learnt, n, batch, library=library, seed=seed, **how)
    totals = learnt.states.library(states).cpu().numpy()
    drawn = as_cells(run.notes, counts.numpy(), totals, condition or {})
    drawn.obsm["X_generated"] = states.cpu().numpy()
    return drawn


@torch.no_grad()
def draw_told(
    run: Run,
    learnt: Learnt,
    n: int,
    told: Mapping[str, Tensor],
    *,
    library: np.ndarray | None = None,
    seed: int,
    **how: object,
) -> tuple[Tensor, Tensor]:
    """Counts (n, G) and states (n, D) of cells of this encoded metadata."""
    with seeded(seed):
        states = learnt.generator.sample(n, conditions(told, run.notes["dims"]), **how)
        if library is not None:
            states = learnt.states.at_library(states, torch.as_tensor(library).to(states))
        return _decoded(run, learnt.states, states, told), states


def _decoded(run: Run, space: States, states: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for at in torch.arange(len(states)).split(SWEEP):
        rows = {key: value[at] for key, value in told.items()}
        parts.append(space.decode(run.model, states[at], rows).cpu())
    return torch.cat(parts)
