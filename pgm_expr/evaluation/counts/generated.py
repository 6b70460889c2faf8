r"""Generated cells beside held-out ones: every figure with what other real cells reach.

    auc           can a classifier tell them apart? the better of two (`two_sample`), .5 at best
    energy, mmd   distances in principal components, 0 at best
    correlation   Pearson r of gene-gene correlations with the real ones (`ppc`), 1 at best
    mean, variance, zero     slopes over genes of log means, log variances and shares of zeros, 1
    total variance           of log-normalised values, drawn / real, 1: diversity
    de            slope of log fold changes of each type against the rest, mean over types, 1
    f1            macro-F1 on real cells of a classifier trained on drawn ones (train on synthetic,
                  test on real) beside one trained on as many real cells
    nearest       median distance to the nearest cell of the fit / that of held-out cells: 1; much
                  less is memory

Slopes on held-out statistics h would be too flat, for h is noisy: with r those of as many cells of
the fit they are cov(h, drawn) / cov(h, r), where the noise of neither side is shared with h.

Esteban, Hyland and Raetsch, 2017, https://arxiv.org/abs/1706.02633 (train on synthetic)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ...predict import SEED
from ..effects.differential import fold_change
from ..latent.probes import log_normalise, pca, probe
from .ppc import gene_correlations
from .statistics import gene_statistics
from .two_sample import two_sample

LEAST = 50  # counts of a gene that is looked at


class Labelled(NamedTuple):
    """Counts (n, G) of cells and codes (n,) of their labels."""

    counts: sparse.csr_array
    labels: np.ndarray


def judge_generated(
    drawn: Labelled, held_out: Labelled, reference: Labelled, *, components: int = 50
) -> dict[str, float]:
    """Figures of drawn cells against held-out ones; `<figure>_floor` are of real cells of the fit.

    `drawn` should have the label mix of `held_out`: what differs otherwise is the mix. Components
    are of half of the reference, the floor is cells of the other half, as many as are held out
    where there are. ValueError as in `two_sample`.
    """
    rng = np.random.default_rng(SEED)
    floor, other = _alike(reference, held_out.labels, rng)
    found = _told_apart(drawn, held_out, reference, components)
    for name, figure in FIGURES.items():
        found[name] = figure(drawn, held_out, other)
        found[f"{name}_floor"] = figure(floor, held_out, other)
    return found | _trained(drawn, floor, held_out, reference)


def _alike(
    reference: Labelled, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Labelled, Labelled]:
    """Twice cells of the fit with the same mix of labels, no cell twice; halves where few."""
    sides = [], []
    for kind, number in zip(*np.unique(labels, return_counts=True), strict=True):
        members = rng.permutation(np.flatnonzero(reference.labels == kind))
        number = min(number, len(members) // 2)
        sides[0].append(members[:number]), sides[1].append(members[number : 2 * number])
    chosen = (np.concatenate(side) for side in sides)
    return tuple(Labelled(reference.counts[at], reference.labels[at]) for at in chosen)


def _told_apart(
    drawn: Labelled, held_out: Labelled, reference: Labelled, components: int
) -> dict[str, float]:
    found = two_sample(drawn.counts, held_out.counts, reference.counts, components=components)
    names = ("auc", "energy", "mmd")
    told = {n: getattr(found, n) for n in names}
    floors = {f"{n}_floor": getattr(found, f"{n}_floor") for n in names}
    return told | floors | {"nearest": found.nearest / found.nearest_floor}


def _correlation(drawn: Labelled, real: Labelled, _: Labelled) -> float:
    return gene_correlations(drawn.counts, real.counts, minimum=LEAST)


def _total_variance(drawn: Labelled, real: Labelled, _: Labelled) -> float:
    totals = [gene_statistics(log_normalise(side.counts))[1].sum() for side in (drawn, real)]
    return float(totals[0] / totals[1])


def _slope(drawn: np.ndarray, real: np.ndarray, other: np.ndarray) -> float:
    """Of drawn statistics (G,) on real ones, whose noise `other` real ones do not share."""
    centred = real - real.mean()
    return float(centred @ drawn / (centred @ other))


def _slope_of(which: int, *sides: Labelled) -> float:
    """Of logs of means (0) or variances (1), or of shares of zeros (2)."""
    kept = np.asarray(sides[1].counts.sum(0)).ravel() >= LEAST
    found = [gene_statistics(side.counts)[which][kept] for side in sides]
    if which < 2:
        least = 0.5 / sides[1].counts.shape[0]
        found = [np.log(np.maximum(each, least)) for each in found]
    return _slope(*found)


def _de(*sides: Labelled) -> float:
    """Mean over labels of ten cells or more on all sides; nan where there is one label."""
    kept = np.asarray(sides[1].counts.sum(0)).ravel() >= LEAST
    slopes = []
    for kind in np.unique(sides[1].labels):
        groups = [(side.labels == kind).astype(int) for side in sides]
        if all(10 <= at.sum() <= len(at) - 10 for at in groups):
            pairs = zip(sides, groups, strict=True)
            slopes.append(_slope(*(fold_change(side.counts, at)[kept] for side, at in pairs)))
    return float(np.mean(slopes)) if slopes else float("nan")


FIGURES = {
    "correlation": _correlation,
    "mean": partial(_slope_of, 0),
    "variance": partial(_slope_of, 1),
    "zero": partial(_slope_of, 2),
    "total_variance": _total_variance,
    "de": _de,
}


def _trained(
    drawn: Labelled, floor: Labelled, held_out: Labelled, reference: Labelled
) -> dict[str, float]:
    """Macro-F1 on held-out cells of classifiers trained on drawn and on real cells."""
    if len(np.unique(held_out.labels)) < 2:
        return {"f1": float("nan"), "f1_floor": float("nan")}
    counts = [side.counts for side in (drawn, floor, held_out)]
    _, *places = pca(reference.counts, *counts, size=20)
    scores = [
        probe(place, side.labels, places[2], held_out.labels)["macro_f1"]
        for place, side in zip(places[:2], (drawn, floor), strict=True)
    ]
    return dict(zip(("f1", "f1_floor"), scores, strict=True))
