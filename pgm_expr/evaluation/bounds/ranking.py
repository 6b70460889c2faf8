r"""Variants of a story on the same held-out cells: differences paired over cells, ties named.

A variant's score is the importance-weighted bound of each cell, averaged over seeds. Differences
are taken to the best variant of the same measure: a probability of counts given the library, of
counts given their total, and of detection are different quantities, whose difference says
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...inference import ELBO, latent_use, seeded
from ...predict import SEED, draw_posterior, withheld
from ..latent.probes import probe
from .held_out import elbo, iwae, standard_error

Batches = Callable[[], Iterable[Mapping[str, Tensor]]]
Scores = Mapping[str, Tensor]  # of one fit, by name, (N,) each
K = TypeVar("K", bound=Hashable)  # whatever names a variant
SURE = 2.0  # standard errors from which a difference is one


def score(
    model: nn.Module, guide: nn.Module, train: Batches, test: Batches, *, labels: int, draws: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What one fit brings to a comparison: tensors by held-out cell, (N,), and single figures.

    Tensors: `elbo`; `iwae` and `iwae_4k` at K = `draws` and 4 K; `zeros` and `zeros_drawn`, the
    genes without a count in the cell and in one draw from its posterior predictive. Figures:
    `kl`, `active_units`, `collapse`, and the probe's macro-F1 where there are `labels`. The
    story is told no label and no target, see `withheld`.
    """
    bounds = iwae(model, guide, withheld(test()), (draws, 4 * draws))
    bound = ELBO(model, guide, cells=float("inf"))
    use = latent_use(bound, withheld(test()))
    with seeded(SEED):
        drawn = draw_posterior(model, guide, withheld(test()))
    x = torch.cat([batch["x"] for batch in test()])
    tensors = {
        "elbo": elbo(model, guide, withheld(test())),
        "iwae": bounds[draws],
        "iwae_4k": bounds[4 * draws],
        "zeros": (x == 0).sum(-1),
        "zeros_drawn": (drawn == 0).sum(-1),
    }
    figures = {
        "kl": use.kl.sum().item(),
        "active_units": use.active_units,
        "collapse": use.verdict(),
        "probe_macro_f1": None,
    }
    if labels:
        known = torch.cat([batch["label"] for batch in train()]).cpu().numpy()
        asked = torch.cat([batch["label"] for batch in test()]).cpu().numpy()
        latents = [u.cpu().numpy() for u in (latent_use(bound, withheld(train())).loc, use.loc)]
        figures["probe_macro_f1"] = probe(latents[0], known, latents[1], asked)["macro_f1"]
    return {n: t.double().cpu() for n, t in tensors.items()}, figures


def rank(variants: Mapping[K, Sequence[Scores]], measures: Mapping[K, str]) -> dict[K, dict]:
    """Held-out figures of each variant, from the scores of its seeds, best first.

    `heldout_elbo`, `heldout_iwae` and `heldout_iwae_4k` with their standard deviation over seeds
    (`_sd`); `diff` at 4 K to the best variant of the same measure, averaged over seeds and
    paired over cells, with its standard error over cells `dse` and its standard deviation over
    pairs of seeds `diff_sd`; `tie` where `diff` is less than two standard errors of both kinds
    (see `uncertainty`) or than it moves between K and 4 K. Only equal `measures` are compared.
    """
    rows = {name: _means(scores) for name, scores in variants.items()}
    order = sorted(rows, key=lambda name: -rows[name]["heldout_iwae_4k"])
    for name in order:
        best = next(other for other in order if measures[other] == measures[name])
        rows[name] |= _against(variants[name], variants[best]) if name != best else _BEST
    return {name: rows[name] for name in order}


_BEST = {"diff": 0.0, "dse": 0.0, "diff_sd": 0.0, "tie": False}


def _means(scores: Sequence[Scores]) -> dict[str, float]:
    row = {}
    for name, key in (("elbo", "elbo"), ("iwae", "iwae"), ("iwae_4k", "iwae_4k")):
        means = torch.stack([each[key].mean() for each in scores])
        row |= {f"heldout_{name}": means.mean().item(), f"heldout_{name}_sd": spread(means)}
    return row


def spread(seeds: Tensor) -> float:
    """The standard deviation over seeds, 0 of a single one."""
    return seeds.std().item() if len(seeds) > 1 else 0.0


def _against(scores: Sequence[Scores], best: Sequence[Scores]) -> dict[str, float | bool]:
    fine, coarse = (difference(scores, best, key).mean().item() for key in ("iwae_4k", "iwae"))
    error, over_seeds = uncertainty(scores, best)
    unsure = max(SURE * _both(error, over_seeds, len(scores)), abs(fine - coarse))
    return {"diff": fine, "dse": error, "diff_sd": over_seeds, "tie": abs(fine) < unsure}


def uncertainty(scores: Sequence[Scores], other: Sequence[Scores]) -> tuple[float, float]:
    """How sure a difference is: its standard error over cells, and its spread over seeds.

    Fits of one variant differ, and what training noise moves is no difference of variants:
    the second is the standard deviation, over pairs of fits, of the mean difference.
    """
    pairs = zip(scores, other, strict=False)
    gaps = torch.stack([(one["iwae_4k"] - two["iwae_4k"]).mean() for one, two in pairs])
    return standard_error(difference(scores, other)), spread(gaps)


def _both(error: float, over_seeds: float, seeds: int) -> float:
    return math.hypot(error, over_seeds / math.sqrt(seeds))


def difference(scores: Sequence[Scores], other: Sequence[Scores], key: str = "iwae_4k") -> Tensor:
    """Score minus the other's, of each cell, averaged over seeds, (N,)."""
    return _by_cell(scores, key) - _by_cell(other, key)


def _by_cell(scores: Sequence[Scores], key: str) -> Tensor:
    return torch.stack([each[key] for each in scores]).mean(0)


def zero_inflation(nb: Sequence[Scores], zinb: Sequence[Scores]) -> str:
    """Whether zero inflation pays: which to use, by how much, how sure, and NB's own zeros.

    The fits come in pairs that differ in nothing else.

    ZINB is chosen where its held-out bound is higher by two standard errors, over cells and
    seeds: NB is its limit, so equal scores speak for NB.
    """
    diff = difference(zinb, nb).mean().item()
    error = _both(*uncertainty(zinb, nb), len(nb))
    use = "ZINB" if diff > SURE * error else "NB"
    missing = _by_cell(nb, "zeros") - _by_cell(nb, "zeros_drawn")
    short, short_error = missing.mean().item(), standard_error(missing)
    share = short / _by_cell(nb, "zeros").mean().item()
    under = "underfits" if short > SURE * short_error else "does not underfit"
    return (
        f"Use {use}: ZINB is {diff:+.2f} ± {error:.2f} nats per held-out cell against NB "
        f"({abs(diff) / error:.1f} standard errors, over cells and {len(nb)} pairs of fits). NB "
        f"{under} zeros: a real cell has {short:+.1f} ± {short_error:.1f} genes at zero against "
        f"NB's draws ({share:+.2%})."
    )
