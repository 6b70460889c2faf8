"""Whether a latent state still tells something it should not: a probe against permutations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Leakage(NamedTuple):
    """Balanced accuracy of a linear probe, beside the same probe of permuted levels."""

    accuracy: float  # mean over groups
    chance: float  # mean over permutations
    p: float  # share of permutations (and the data themselves) that reach the accuracy
    groups: int  # that could be probed


def leakage(
    train: np.ndarray,
    train_levels: np.ndarray,
    test: np.ndarray,
    test_levels: np.ndarray,
    *,
    train_groups: np.ndarray | None = None,
    test_groups: np.ndarray | None = None,
    minimum: int = 5,
    permutations: int = 200,
    seed: int = 0,
) -> Leakage:
    """How well levels (batch, donor, condition) can be read from latent states (N, D).

    Within each group (cell type) a logistic probe is fitted on the training cells and scored on
    the test cells; a group counts where two levels have at least `minimum` cells on both sides.
    Levels are then permuted among the cells of a group and side: unlike 1 / levels, that null
    knows about unequal numbers, and about groups that come from few levels.

    ValueError where no group can be probed.
    """
    pairs = (train, train_levels, train_groups), (test, test_levels, test_groups)
    sides = [(z, np.asarray(levels), _groups(groups, len(z))) for z, levels, groups in pairs]
    cells = _comparable(*sides, minimum)
    if not cells:
        raise ValueError(
            f"no group has two levels with {minimum} training and {minimum} test cells. Lower "
            "`minimum`, or probe without groups."
        )
    rng = np.random.default_rng(seed)
    found = _accuracy(cells)
    null = [_accuracy(_permuted(cells, rng)) for _ in range(permutations)]
    reached = sum(each >= found - 1e-12 for each in null)
    return Leakage(found, float(np.mean(null)), (1 + reached) / (1 + permutations), len(cells))


Probed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # z, levels to fit; to score


def _groups(groups: np.ndarray | None, cells: int) -> np.ndarray:
    return np.zeros(cells) if groups is None else np.asarray(groups)


def _comparable(fit: tuple, score: tuple, minimum: int) -> list[Probed]:
    """The cells of each group whose levels can be compared."""
    found = []
    for group in np.unique(fit[2]):
        sides = [
            (z[groups == group], levels[groups == group]) for z, levels, groups in (fit, score)
        ]
        counts = [
            dict(zip(*np.unique(levels, return_counts=True), strict=True)) for _, levels in sides
        ]
        both = [v for v in counts[0] if min(counts[0][v], counts[1].get(v, 0)) >= minimum]
        if len(both) > 1:
            kept = [
                (z[np.isin(levels, both)], levels[np.isin(levels, both)]) for z, levels in sides
            ]
            found.append((*kept[0], *kept[1]))
    return found


def _permuted(cells: list[Probed], rng: np.random.Generator) -> list[Probed]:
    return [(z, rng.permutation(a), other, rng.permutation(b)) for z, a, other, b in cells]


def _accuracy(cells: list[Probed]) -> float:
    return float(np.mean([_probe(*each) for each in cells]))


def _probe(z: np.ndarray, levels: np.ndarray, other: np.ndarray, asked: np.ndarray) -> float:
    classifier = LogisticRegression(max_iter=2000, class_weight="balanced")
    fitted = make_pipeline(StandardScaler(), classifier).fit(z, levels)
    return float(balanced_accuracy_score(asked, fitted.predict(other)))
