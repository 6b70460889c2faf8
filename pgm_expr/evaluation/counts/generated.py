r"""Generated cells beside held-out ones: every figure with its floor, that of other real cells.

    auc           of a classifier, generated against real: the better of two (`two_sample`), 0.5
                  at best
    energy, mmd   distances in principal components, 0 at best
    correlation   Pearson r of gene-gene correlations with the real ones (`ppc`), 1 at best
    mean, variance, zero     slopes over genes of log means, log variances and shares of zeros, 1
    total variance           of log-normalised values, drawn / real, 1: diversity
    de            slope of log fold changes of each type against the rest, mean over types, 1
    f1            macro-F1 on real cells of a classifier trained on drawn ones (train on synthetic,
                  test on real), beside one trained on as many real cells
    nearest       median distance to the nearest cell of the fit / that of held-out cells: 1; much
                  lower values indicate memorisation

Slopes on held-out statistics h would be too flat, because h is noisy. With r those of as many
cells of the fit they are cov(h, drawn) / cov(h, r), where the noise of neither side is shared with
h.

Esteban, Hyland and Raetsch, 2017, https://arxiv.org/abs/1706.02633 (train on synthetic)
"""

from __future__ import annotations

from collections.abc import Callable
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

LEAST = 50  # counts from which a gene is compared


class Labelled(NamedTuple):
    """Labelled cells.

    Parameters
    ----------
    counts
        Counts, (n, G).
    labels
        Codes of the labels, (n,).
    """

    counts: sparse.csr_array
    labels: np.ndarray


def judge_generated(
    drawn: Labelled, held_out: Labelled, reference: Labelled, *, components: int = 50
) -> dict[str, float]:
    """Compare generated cells with held-out ones, beside real cells of the fit.

    Parameters
    ----------
    drawn
        Generated cells. Their mix of labels should be that of `held_out`: otherwise figures show
        the difference in the mix.
    held_out
        Real cells that the generator has not seen.
    reference
        Real cells of the fit. Half of them make the components; the floor is cells of the other
        half, as many as are held out where there are.
    components
        Number of principal components.

    Returns
    -------
    dict
        Figures by name, see the module; `<name>_floor` are those of real cells of the fit.

    Raises
    ------
    ValueError
        As `two_sample`.
    """
    rng = np.random.default_rng(SEED)
    floor, other = _alike(reference, held_out.labels, rng)
    tests = two_sample(drawn.counts, held_out.counts, reference.counts, components=components)
    found = {name: getattr(tests, name) for name in TESTS}
    found["nearest"] = tests.nearest / tests.nearest_floor
    for name, figure in FIGURES.items():
        found[name] = figure(drawn, held_out, other)
        found[f"{name}_floor"] = figure(floor, held_out, other)
    return found | _trained(drawn, floor, held_out, reference)


def _alike(
    reference: Labelled, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Labelled, Labelled]:
    """Two disjoint samples of the fit with that mix of labels; halves where cells are few."""
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for kind, number in zip(*np.unique(labels, return_counts=True), strict=True):
        members = rng.permutation(np.flatnonzero(reference.labels == kind))
        number = min(number, len(members) // 2)
        first.append(members[:number])
        second.append(members[number : 2 * number])
    one, other = (np.concatenate(side) for side in (first, second))
    return (
        Labelled(reference.counts[one], reference.labels[one]),
        Labelled(reference.counts[other], reference.labels[other]),
    )


def _correlation(drawn: Labelled, real: Labelled, _: Labelled) -> float:
    return gene_correlations(drawn.counts, real.counts, minimum=LEAST)


def _total_variance(drawn: Labelled, real: Labelled, _: Labelled) -> float:
    totals = [gene_statistics(log_normalise(side.counts))[1].sum() for side in (drawn, real)]
    return float(totals[0] / totals[1])


def _slope(drawn: np.ndarray, real: np.ndarray, other: np.ndarray) -> float:
    """Slope of drawn statistics (G,) on real ones, whose noise `other` real ones do not share."""
    centred = real - real.mean()
    return float(centred @ drawn / (centred @ other))


def _slope_of(which: int, *sides: Labelled) -> float:
    """Slope of log means (0), log variances (1), or shares of zeros (2)."""
    kept = np.asarray(sides[1].counts.sum(0)).ravel() >= LEAST
    found = [gene_statistics(side.counts)[which][kept] for side in sides]
    if which < 2:
        least = 0.5 / sides[1].counts.shape[0]
        found = [np.log(np.maximum(each, least)) for each in found]
    return _slope(*found)


def _de(*sides: Labelled) -> float:
    """Mean slope over labels of ten cells or more on all sides; NaN where there is one label."""
    kept = np.asarray(sides[1].counts.sum(0)).ravel() >= LEAST
    slopes = []
    for kind in np.unique(sides[1].labels):
        groups = [(side.labels == kind).astype(int) for side in sides]
        if all(10 <= at.sum() <= len(at) - 10 for at in groups):
            pairs = zip(sides, groups, strict=True)
            slopes.append(_slope(*(fold_change(side.counts, at)[kept] for side, at in pairs)))
    return float(np.mean(slopes)) if slopes else float("nan")


TESTS = ("auc", "energy", "mmd", "auc_floor", "energy_floor", "mmd_floor")  # of `two_sample`
FIGURES: dict[str, Callable[[Labelled, Labelled, Labelled], float]] = {
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
