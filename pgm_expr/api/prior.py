r"""A prior that learns where a story's posteriors are, put inside the story it came from.

    maximise  E[ log p(z) ],  z ~ q(z | x_n) of the cells outside the test set

over the new prior alone: decoder and guide stay. The bound gains what lay between the posteriors
together and the old prior (`criticize`, health), so drawn cells are like real ones where the old
prior put states that no cell is in.

Tomczak and Welling, AISTATS 2018, https://arxiv.org/abs/1705.07120 (why that gap is a loss)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import evaluation, zoo
from ..data import sweep
from ..inference.tracing import trace
from ..nn import learn
from .threads import few_threads

if TYPE_CHECKING:
    from .run import Run

PRIORS = ("flow", "mog")
STEPS = 3000
SWEEP = 512  # cells a minibatch
LATENT = "z"


def learn_prior(
    run: Run,
    prior: str,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Run:
    """See `Run.learn_prior`."""
    from .load import assemble  # which loads runs, and so knows of them

    zoo.pick("prior", prior, {name: name for name in PRIORS})
    if steps < 1:
        raise ValueError(f"steps must be at least 1: got {steps}.")
    run.reread()
    _refuse_without_prior(run)
    why = zoo.refusal(run.story, run.notes["objective"], {"prior": prior})
    if why:
        raise ValueError(f"{why}. Fit with another objective.")
    notes = {**run.notes, "options": {**run.notes["options"], "prior": prior}}
    new = assemble(run.story, notes, str(run.device), seed=seed)
    _take_over(new, run)
    with few_threads(0):
        epochs = learn(new.model.prior, _loss(new), _states(run), steps=steps, seed=seed)
        losses = [*progress(epochs)]
    new.model.eval(), new.guide.eval()
    new.table, new.history = run.table, run.history
    new.notes["learnt_prior"] = {"prior": prior, "steps": steps, "loss": losses[-1]}
    return new


def _refuse_without_prior(run: Run) -> None:
    if "prior" not in zoo.defaults(run.story) or not hasattr(run.model, "prior"):
        raise ValueError(f"the story {run.notes['story']} has no prior to swap. Take another.")
    if isinstance(run.model.prior, zoo.PARTS["prior"]["vamp"]):
        raise ValueError("the prior of this run is made of its guide. Fit with another prior.")


def _take_over(new: Run, run: Run) -> None:
    """All weights but those of the prior."""
    kept = {n: t for n, t in run.model.state_dict().items() if not n.startswith("prior.")}
    new.model.load_state_dict(kept, strict=False)
    new.guide.load_state_dict(run.guide.state_dict())
    new.model.eval(), new.guide.eval()


def _states(run: Run) -> Callable[[], Tensor]:
    """A new draw of z of the cells outside the test set, (N, D), at each call."""
    cells, known = run.table.cells.to(run.device), run.table.split.development

    @torch.no_grad()
    def draw() -> Tensor:
        batches = evaluation.withheld(sweep(cells, known, SWEEP))
        return torch.cat([trace(run.guide, batch).nodes[LATENT]["value"] for batch in batches])

    return draw


def _loss(new: Run) -> Callable[[Tensor, Tensor | None], Tensor]:
    return lambda z, _: -new.model.prior().log_prob(z)
