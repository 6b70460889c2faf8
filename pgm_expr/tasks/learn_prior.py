r"""A prior fitted to the posteriors of a run, in the place of the story's own.

    maximise  E[ log p(z) ],  z ~ q(z | x_n) of the cells outside the test set

over the new prior alone: decoder and guide stay. The bound gains the divergence between the
aggregate posterior and the old prior (`criticize`, health), and drawn cells resemble real ones
where the old prior had mass without any cell.

Tomczak and Welling, AISTATS 2018, https://arxiv.org/abs/1705.07120 (why that gap is a loss)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from .. import parts, zoo
from ..data import sweep
from ..inference.progress import endless
from ..inference.threads import few_threads
from ..inference.tracing import Site, trace
from ..nn import learn
from ..runs.assemble import assemble
from ..runs.fitted import SWEEP

if TYPE_CHECKING:
    from ..runs.fitted import Fitted

PRIORS = ("flow", "mog")
STEPS = 3000
LATENT = "z"
Run = TypeVar("Run", bound="Fitted")


def learn_prior(
    run: Run, prior: str = "flow", *, steps: int = STEPS, seed: int = 0, progress: bool = True
) -> Run:
    """A run of the same story, decoder and guide whose prior is fitted to the posteriors.

    `sample` then draws cells closer to real ones, and the held-out bound rises by the divergence
    between aggregate posterior and old prior.

    Parameters
    ----------
    prior
        `flow` (splines) or `mog` (mixture of normals).
    steps
        Minibatches of draws from the posteriors of the cells outside the test set.
    seed
        Of initial weights and noise.
    progress
        Show on stderr how far training is.

    Returns
    -------
    A new run. Save it to a folder of its own.

    Raises
    ------
    ValueError
        For a story without a prior to swap, one whose prior is built from the guide (`vamp`),
        another prior than these, and steps below 1.

    Examples
    --------
    >>> better = run.learn_prior("mog", steps=2, progress=False)
    >>> better.notes["options"]["prior"]
    'mog'
    """
    zoo.pick("prior", prior, {name: name for name in PRIORS})
    if steps < 1:
        raise ValueError(f"steps must be at least 1: got {steps}.")
    _refuse_without_prior(run)
    why = zoo.refusal(run.story, run.notes["objective"], {"prior": prior})
    if why:
        raise ValueError(f"{why}. Fit with another objective.")
    table = run.training_table()
    notes = {**run.notes, "options": {**run.notes["options"], "prior": prior}}
    built = assemble(run.story, notes, str(run.device), seed=seed)
    _take_over(built, run)
    with few_threads(0):
        module = built.model.get_submodule("prior")
        epochs = learn(module, _loss(module), _states(run), steps=steps, seed=seed)
        bar = endless(epochs, what="training of the prior: epoch", show=progress)
        losses = [*bar]
    built.model.eval(), built.guide.eval()
    built.notes["learnt_prior"] = {"prior": prior, "steps": steps, "loss": losses[-1]}
    return replace(
        run,
        model=built.model,
        guide=built.guide,
        notes=built.notes,
        table=table,
        metrics={},
        generators={},
        folder=None,
    )


def _refuse_without_prior(run: Fitted) -> None:
    if "prior" not in zoo.defaults(run.story) or not hasattr(run.model, "prior"):
        raise ValueError(f"the story {run.notes['story']} has no prior to swap. Take another.")
    if isinstance(run.model.prior, parts.VampPrior):
        raise ValueError("the prior of this run is built from its guide. Fit with another prior.")


def _take_over(built: Fitted, run: Fitted) -> None:
    """All weights but those of the prior."""
    kept = {n: t for n, t in run.model.state_dict().items() if not n.startswith("prior.")}
    built.model.load_state_dict(kept, strict=False)
    built.guide.load_state_dict(run.guide.state_dict())
    built.model.eval(), built.guide.eval()


def _states(run: Fitted) -> Callable[[], Tensor]:
    """A new draw of z of the cells outside the test set, (N, D), at each call."""
    cells, known = run.training_cells().withheld(), run.training_table().split.development

    @torch.no_grad()
    def draw() -> Tensor:
        traces = (trace(run.guide, batch) for batch in sweep(cells, known, SWEEP))
        sites = (cast(Site, each.nodes[LATENT]) for each in traces)
        return torch.cat([site["value"] for site in sites])

    return draw


def _loss(prior: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor]:
    return lambda z, _: -prior().log_prob(z)
