r"""Two-sample tests: can generated cells be distinguished from real ones?

    auc       of classifiers, generated against real, cross-fitted: gradient boosting and logistic
              regression, of which the larger AUC is reported. 0.5 is chance; the floor is the
              AUC of real held-out cells against other real cells.
    energy    energy distance 2 E|a - b| - E|a - a'| - E|b - b'|, and its p by permutation
    mmd       squared maximum mean discrepancy, Gaussian kernel of the median width, and its p
    nearest   median distance of a generated cell to the nearest cell of the fit; if it is far
              below that of real held-out cells, generated cells are copies

All in the space of principal components of log(1 + 1e4 x / library), fitted to cells of the fit,
with log library beside them for the classifiers, and covariates where there are any. No test sees
what the components leave out.

Lopez-Paz and Oquab, ICLR 2017, https://arxiv.org/abs/1610.06545
Gretton et al., JMLR 2012, https://jmlr.org/papers/v13/gretton12a.html
Szekely and Rizzo, Journal of Statistical Planning and Inference 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ...predict import SEED
from ..counts.statistics import Counts
from ..latent.probes import pca

LEAST = 100  # cells a side: at 31 the AUC of equal samples has a standard deviation of 0.08
MOST = 1000  # cells a side for distances between all pairs
PRODUCTS = 100  # of covariates and components, at most
WIDER = 1.4  # sd of a cross-fitted AUC of equal samples, over that of fixed scores (1.26 to 1.42)
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # of drawn, held-out and reference cells
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=100, random_state=SEED),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
}


class TwoSample(NamedTuple):
    """Generated against held-out cells, beside the floor: cells of the fit against held-out ones.

    Parameters
    ----------
    auc, auc_floor
        AUC of the better classifier; 0.5 is chance.
    classifier
        The better classifier of generated cells.
    energy, energy_floor, energy_p
        Energy distance, and its p by permutation.
    mmd, mmd_floor, mmd_p
        Squared maximum mean discrepancy, and its p by permutation.
    nearest, nearest_floor
        Median distance to the nearest cell of the fit: of generated, and of held-out cells.
    auc_sd
        Standard deviation of the AUC of a classifier if generated and held-out cells have the
        same distribution: its mean is then 0.5.
    """

    auc: float
    auc_floor: float
    classifier: str
    energy: float
    energy_floor: float
    energy_p: float
    mmd: float
    mmd_floor: float
    mmd_p: float
    nearest: float
    nearest_floor: float
    auc_sd: float


def two_sample(
    drawn: Counts,
    held_out: Counts,
    reference: Counts,
    *,
    columns: Columns | None = None,
    components: int = 20,
    permutations: int = 200,
) -> TwoSample:
    """Test drawn counts against real held-out ones, beside those of the fit.

    All sides are subsampled to the same number of cells, at most 1,000.

    Parameters
    ----------
    drawn, held_out
        Counts, (n, G) each.
    reference
        Counts of the fit, (M, G). One half defines the components and is searched for nearest
        cells; the other half gives the floor.
    columns
        Covariates of the three sides, (n, C) each, that the classifiers see beside the counts: a
        story that ignores a batch draws cells of another association of counts and batch.
    components
        Number of principal components.
    permutations
        Number of permutations for p of energy distance and MMD.

    Raises
    ------
    ValueError
        For fewer than 100 cells on a side.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> drawn, held_out = noise.poisson(5, (100, 30)), noise.poisson(3, (100, 30))
    >>> found = two_sample(drawn, held_out, noise.poisson(3, (200, 30)), permutations=20)
    >>> found.auc > 0.9 > found.auc_floor
    True
    """
    rng = np.random.default_rng(SEED)
    base, other = np.array_split(rng.permutation(reference.shape[0]), 2)
    n = min(drawn.shape[0], held_out.shape[0], len(other), MOST)
    if n < LEAST:
        raise ValueError(
            f"a two-sample test needs {LEAST} cells a side: got {n}. Hold out more, or pool types."
        )
    picks = [rng.choice(x.shape[0], n, replace=False) for x in (drawn, held_out)] + [other[:n]]
    sides = drawn, held_out, reference
    parts = [sparse.csr_array(x)[at] for x, at in zip(sides, picks, strict=True)]
    nearby, *scores = pca(sparse.csr_array(reference)[base], *parts, size=components)
    beside = columns or tuple(np.empty((x.shape[0], 0)) for x in sides)
    middle = beside[2].mean(0)
    extra = [column[at] - middle for column, at in zip(beside, picks, strict=True)]
    fake, real, floor = (_features(*each) for each in zip(scores, parts, extra, strict=True))
    aucs = {name: _auc(make, fake, real) for name, make in CLASSIFIERS.items()}
    worst = max(aucs, key=lambda name: aucs[name])
    space, *spaces = scores[1], scores[0], scores[2]
    energy, mmd = (
        [_permuted(kernel, each, space, permutations, rng) for each in spaces]
        for kernel in (_energy, _gaussian)
    )
    near, near_floor = (
        float(np.median(cdist(each, nearby).min(1))) for each in (spaces[0], space)
    )
    floors = max(_auc(make, floor, real) for make in CLASSIFIERS.values())
    return TwoSample(
        aucs[worst], floors, worst, energy[0][0], energy[1][0], energy[0][1],
        mmd[0][0], mmd[1][0], mmd[0][1], near, near_floor, _auc_sd(n),
    )  # fmt: skip


def _features(scores: np.ndarray, x: sparse.sparray, columns: np.ndarray) -> np.ndarray:
    """Components, log library, covariates and their products with the first components.

    A story that ignores a covariate has the right components and the right covariates, and only
    their association is wrong: a tree that looks at one feature at a time does not find it.
    """
    depth = np.log(np.maximum(np.asarray(x.sum(1), np.float64).ravel(), 1))
    first = scores[:, : PRODUCTS // max(columns.shape[1], 1)]
    products = (columns[:, :, None] * first[:, None]).reshape(len(scores), -1)
    return np.column_stack([scores, depth, columns, products])


def _auc_sd(n: int) -> float:
    """Of n cells a side: that of one ranking, times what cross-fitting adds, see `WIDER`."""
    return float(WIDER * np.sqrt((2 * n + 1) / (12 * n**2)))


def _auc(make: Callable, a: np.ndarray, b: np.ndarray) -> float:
    """Cross-fitted AUC of a against b; below 0.5 by chance alone."""
    y = np.repeat([1, 0], [len(a), len(b)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    p = cross_val_predict(make(), np.vstack([a, b]), y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, p))


def _energy(distances: np.ndarray) -> np.ndarray:
    return -distances


def _gaussian(distances: np.ndarray) -> np.ndarray:
    return np.exp(-((distances / np.median(distances)) ** 2) / 2)


def _permuted(
    kernel: Callable, a: np.ndarray, b: np.ndarray, permutations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean kernel within sides minus between them, and its p by permutation of sides."""
    both = np.vstack([a, b])
    k = kernel(cdist(both, both))
    np.fill_diagonal(k, 0.0)
    side = np.repeat([1.0, -1.0], [len(a), len(b)])
    found = _between(k, side)
    null = [_between(k, rng.permutation(side)) for _ in range(permutations)]
    return found, (1 + sum(each >= found for each in null)) / (1 + permutations)


def _between(k: np.ndarray, side: np.ndarray) -> float:
    """k within sides, pairs of different cells, minus twice k between them."""
    first, second = side > 0, side < 0
    n, m = first.sum(), second.sum()
    inside = [k[np.ix_(at, at)].sum() / (s * (s - 1)) for at, s in ((first, n), (second, m))]
    return float(sum(inside) - 2 * k[np.ix_(first, second)].mean())


class Marked(NamedTuple):
    """Mean share of a type's markers that its cells express.

    Parameters
    ----------
    drawn, held_out
        The share in drawn, and in held-out cells.
    se
        Standard error of their difference, over cells.
    """

    drawn: float
    held_out: float
    se: float


def markers_on(
    drawn: Counts,
    drawn_types: np.ndarray,
    held_out: Counts,
    types: np.ndarray,
    reference: Counts,
    reference_types: np.ndarray,
    *,
    number: int = 10,
) -> dict[int, Marked]:
    """Compare how often drawn and held-out cells express the markers of their type.

    Markers of a type are the genes whose share of expressing cells, in `reference`, most exceeds
    their share in the other types.

    Parameters
    ----------
    drawn, held_out, reference
        Counts, (n, G) each.
    drawn_types, types, reference_types
        Types of their cells, (n,) each, -1 for none.
    number
        Markers per type.

    Returns
    -------
    dict
        By type, without types of fewer than ten cells on a side.

    Raises
    ------
    ValueError
        Where no type is left.
    """
    on = [sparse.csr_array(x) > 0 for x in (drawn, held_out, reference)]
    codes = [np.asarray(t) for t in (drawn_types, types, reference_types)]
    found = {}
    for kind in np.unique(codes[2]):
        if kind >= 0 and min((code == kind).sum() for code in codes) >= 10:
            inside, outside = (
                np.asarray(on[2][at].mean(0)).ravel()
                for at in (codes[2] == kind, codes[2] != kind)
            )
            genes = np.argsort(outside - inside, kind="stable")[:number]
            found[int(kind)] = _marked(*(on[i][codes[i] == kind][:, genes] for i in (0, 1)))
    if not found:
        raise ValueError(
            "no type has ten cells in drawn, held_out and reference each. Draw or hold out more."
        )
    return found


def _marked(drawn: sparse.sparray, held_out: sparse.sparray) -> Marked:
    ours, theirs = (np.asarray(side.mean(1)).ravel() for side in (drawn, held_out))
    variance = sum(share.var(ddof=1) / len(share) for share in (ours, theirs))
    return Marked(float(ours.mean()), float(theirs.mean()), float(np.sqrt(variance)))
