"""Whether a latent state still tells something it should not: a probe against permutations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from .fitted_probes import Probe, Read, linear


class Leakage(NamedTuple):
    """Balanced accuracy of a probe, beside the same probe of permuted levels."""

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
    probe: Probe = linear,
    minimum: int = 5,
    permutations: int = 200,
    seed: int = 0,
) -> Leakage:
    """How well levels (batch, donor, condition) can be read from latent states (N, D).

    Within each group (cell type) a probe, see `readers`, is fitted on the training cells and
    scored on the test cells; a group counts where two levels have at least `minimum` cells on both
    sides. Levels are then permuted among the cells of a group and side: unlike 1 / levels, that
    null knows about unequal numbers, and about groups that come from few levels.

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
    probed = [(probe(z, other), a, b) for z, a, other, b in cells]
    found = _accuracy(probed)
    null = [_accuracy(_permuted(probed, rng)) for _ in range(permutations)]
    return Leakage(found, float(np.mean(null)), share_reaching(null, found), len(cells))


def share_reaching(null: list[float] | np.ndarray, found: float) -> float:
    """p of a permutation test: the share of permutations, and the data, that reach `found`."""
    return float((1 + np.sum(np.asarray(null) >= found - 1e-12)) / (1 + len(null)))


Cells = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # z, levels to fit; to score
Probed = tuple[Read, np.ndarray, np.ndarray]  # levels to fit, to score


def _groups(groups: np.ndarray | None, cells: int) -> np.ndarray:
    return np.zeros(cells) if groups is None else np.asarray(groups)


def _comparable(fit: tuple, score: tuple, minimum: int) -> list[Cells]:
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


def _permuted(probed: list[Probed], rng: np.random.Generator) -> list[Probed]:
    return [(read, rng.permutation(a), rng.permutation(b)) for read, a, b in probed]


def _accuracy(probed: list[Probed]) -> float:
    scores = [balanced_accuracy_score(asked, read(levels)) for read, levels, asked in probed]
    return float(np.mean(scores))
