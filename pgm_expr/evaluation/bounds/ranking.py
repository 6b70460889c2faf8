r"""Ranking of variants on the same held-out cells: differences paired over cells, and ties.

The score of a variant is the importance-weighted bound of each cell, averaged over seeds.
Differences are taken to the best variant of the same measure: probabilities of counts given the
library, of counts given their total, and of detection are different quantities, whose difference
has no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...inference import ELBO, Objective, latent_use, seeded
from ...predict import SEED, Batch, draw_posterior, withheld
from ..guide.sites import has_states
from ..latent.probes import probe
from .held_out import elbo, iwae, standard_error

Batches = Callable[[], Iterable[Batch]]  # a function that sweeps some cells
Scores = Mapping[str, Tensor]  # of one fit, by name, (N,) each
K = TypeVar("K", bound=Hashable)  # whatever names a variant
SURE = 2.0  # standard errors from which a difference is one


def score(
    model: nn.Module, guide: nn.Module, train: Batches, test: Batches, *, labels: int, draws: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Figures of one fit that a comparison of fits needs.

    The story sees no label and no target, see `predict.withheld`.

    Parameters
    ----------
    model, guide
        A fitted pair.
    train, test
        Functions that return minibatches of the training and of the N held-out cells.
    labels
        Number of labels; 0 where the data have none.
    draws
        K of the importance-weighted bound.

    Returns
    -------
    tensors
        By held-out cell, (N,): `elbo`; `iwae` and `iwae_4k` at K and 4 K draws; `zeros` and
        `zeros_drawn`, the number of genes without a count in the cell and in one draw from its
        posterior predictive.
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


def rank(variants: Mapping[K, Sequence[Scores]], measures: Mapping[K, str]) -> dict[K, dict]:
    """Rank variants by their held-out bounds, best first.

    Parameters
    ----------
    variants
        Tensors of `score` of each seed, by variant.
    measures
        What the log p of each variant is a probability of. Only equal measures are compared.

    Returns
    -------
    dict
        By variant: `heldout_elbo`, `heldout_iwae`, `heldout_iwae_4k`, nats per cell, and their
        standard deviation over seeds (`_sd`); `diff` at 4 K to the best variant of the same
        measure, averaged over seeds and paired over cells, its standard error over cells `dse`,
        and its standard deviation over pairs of seeds `diff_sd`; `tie` where `diff` is below two
        standard errors (see `uncertainty`), or below its change between K and 4 K.

    Examples
    --------
    >>> def fit(nats):
    ...     return {name: torch.full((9,), nats) for name in ("elbo", "iwae", "iwae_4k")}
    >>> ranked = rank({"a": [fit(-12.0)], "b": [fit(-10.0)]}, {"a": "counts", "b": "counts"})
    >>> {name: row["diff"] for name, row in ranked.items()}
    {'b': 0.0, 'a': -2.0}
    """
    rows = {name: _means(scores) for name, scores in variants.items()}
    order = sorted(rows, key=lambda name: -rows[name]["heldout_iwae_4k"])
    for name in order:
        best = next(other for other in order if measures[other] == measures[name])
        rows[name] |= _against(variants[name], variants[best]) if name != best else _BEST
    return {name: rows[name] for name in order}


_BEST = {"diff": 0.0, "dse": 0.0, "diff_sd": 0.0, "tie": False}


def _means(scores: Sequence[Scores]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, key in (("elbo", "elbo"), ("iwae", "iwae"), ("iwae_4k", "iwae_4k")):
        means = torch.stack([each[key].mean() for each in scores])
        row |= {f"heldout_{name}": means.mean().item(), f"heldout_{name}_sd": spread(means)}
    return row


def spread(seeds: Tensor) -> float:
    """Standard deviation over seeds, 0 for a single one."""
    return seeds.std().item() if len(seeds) > 1 else 0.0


def _against(scores: Sequence[Scores], best: Sequence[Scores]) -> dict[str, float | bool]:
    fine, coarse = (difference(scores, best, key).mean().item() for key in ("iwae_4k", "iwae"))
    error, over_seeds = uncertainty(scores, best)
    unsure = max(SURE * _both(error, over_seeds, len(scores)), abs(fine - coarse))
    return {"diff": fine, "dse": error, "diff_sd": over_seeds, "tie": abs(fine) < unsure}


def uncertainty(scores: Sequence[Scores], other: Sequence[Scores]) -> tuple[float, float]:
    """Standard error of a difference over cells, and its standard deviation over pairs of fits.

    Fits of one variant differ by training noise, which is no difference of variants: the second
    figure measures it.
    """
    pairs = zip(scores, other, strict=False)
    gaps = torch.stack([(one["iwae_4k"] - two["iwae_4k"]).mean() for one, two in pairs])
    return standard_error(difference(scores, other)), spread(gaps)


def _both(error: float, over_seeds: float, seeds: int) -> float:
    return math.hypot(error, over_seeds / math.sqrt(seeds))


def difference(scores: Sequence[Scores], other: Sequence[Scores], key: str = "iwae_4k") -> Tensor:
    """Difference of the scores of each cell, averaged over seeds, (N,)."""
    return _by_cell(scores, key) - _by_cell(other, key)


def _by_cell(scores: Sequence[Scores], key: str) -> Tensor:
    return torch.stack([each[key] for each in scores]).mean(0)


def zero_inflation(nb: Sequence[Scores], zinb: Sequence[Scores]) -> str:
    """Whether zero inflation improves the held-out bound, in two sentences.

    ZINB is chosen where its bound is higher by two standard errors, over cells and seeds. NB is
    its limit, so equal scores favour NB.

    Parameters
    ----------
    nb, zinb
        Tensors of `score`, in pairs of fits that differ in nothing else.
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
        f"a cell drawn from NB ({share:+.2%})."
    )
