"""Held-out scores of one fit, as a comparison of fits needs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...inference import ELBO, Objective, latent_use, seeded
from ...predict import SEED, Batch, draw_posterior, withheld
from ..guide.sites import has_states
from ..latent.probes import probe
from .held_out import elbo, iwae

Batches = Callable[[], Iterable[Batch]]  # a function that sweeps some cells
Scores = Mapping[str, Tensor]  # of one fit, by name, (N,) each


def score(
    model: nn.Module,
    guide: nn.Module,
    train: Batches,
    test: Batches,
    *,
    validation: Batches,
    labels: int,
    draws: int,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Figures of one fit that a comparison of fits needs.

    The story sees no label and no target, see `predict.withheld`.

    Parameters
    ----------
    model, guide
        A fitted pair.
    train, test
        Functions that return minibatches of the training and of the N held-out cells.
    validation
        Returns minibatches of the M validation cells, by which `rank` orders variants.
    labels
        Number of labels; 0 where the data have none.
    draws
        K of the importance-weighted bound.

    Returns
    -------
    tensors
        By held-out cell, (N,): `elbo`; `iwae` and `iwae_4k` at K and 4 K draws; `zeros` and
        `zeros_drawn`, the number of genes without a count in the cell and in one draw from its
        posterior predictive. By validation cell, (M,): `validation`, the bound at 4 K draws.
    figures
        `kl` in nats per cell, `active_units`, `collapse` (a sentence, None where the latent space
        is in use), and `probe_macro_f1` (None without labels or latent state).
    """
    bounds = iwae(model, guide, withheld(test()), (draws, 4 * draws))
    with seeded(SEED):
        drawn = draw_posterior(model, guide, withheld(test()))
    x = torch.cat([batch["x"] for batch in test()])
    tensors = {
        "elbo": elbo(model, guide, withheld(test())),
        "iwae": bounds[draws],
        "iwae_4k": bounds[4 * draws],
        "validation": iwae(model, guide, withheld(validation()), (4 * draws,))[4 * draws],
        "zeros": (x == 0).sum(-1),
        "zeros_drawn": (drawn == 0).sum(-1),
    }
    figures: dict[str, Any] = {"kl": 0.0, "active_units": 0, "collapse": None}
    figures["probe_macro_f1"] = None
    if has_states(model, guide, next(iter(withheld(test())))):
        figures |= _latent_figures(ELBO(model, guide, cells=math.inf), train, test, labels)
    return {n: t.double().cpu() for n, t in tensors.items()}, figures


def _latent_figures(
    bound: Objective, train: Batches, test: Batches, labels: int
) -> dict[str, Any]:
    use = latent_use(bound, withheld(test()))
    figures: dict[str, Any] = {
        "kl": use.kl.sum().item(),
        "active_units": use.active_units,
        "collapse": use.verdict(),
    }
    if labels:
        sides = [
            torch.cat([batch["label"] for batch in side()]).cpu().numpy() for side in (train, test)
        ]
        known = latent_use(bound, withheld(train())).loc.cpu().numpy()
        scores = probe(known, sides[0], use.loc.cpu().numpy(), sides[1])
        figures["probe_macro_f1"] = scores["macro_f1"]
    return figures
