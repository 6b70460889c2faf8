"""Whether latent states predict levels, such as batches: a probe against permutations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from .fitted_probes import Probe, Read, linear


class Leakage(NamedTuple):
    """Balanced accuracy of a probe, beside the same probe of permuted levels.

    Parameters
    ----------
    accuracy
        Mean over groups.
    chance
        Mean over permutations.
    p
        Share of permutations, and the data, that reach the accuracy.
    groups
        Number of groups that could be probed.
    """

    accuracy: float
    chance: float
    p: float
    groups: int


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
    """How well latent states predict levels (batch, donor, condition).

    Within each group (cell type) a probe is fitted on the training cells and scored on the test
    cells; a group counts where two levels have enough cells on both sides. Levels are then
    permuted among the cells of a group and side: unlike 1 / levels, that null accounts for unequal
    numbers and for groups that come from few levels.

    Parameters
    ----------
    train, test
        States of training and of test cells, (N, D) and (M, D).
    train_levels, test_levels
        Their levels, (N,) and (M,).
    train_groups, test_groups
        Their groups; one group by default.
    probe
        See `fitted_probes`.
    minimum
        Training cells, and test cells, that two levels of a group need.
    permutations
        Number of permutations.
    seed
        Of the permutations.

    Raises
    ------
    ValueError
        Where no group can be probed.

    Examples
    --------
    >>> noise = np.random.default_rng(0)
    >>> levels = np.tile([0, 1], 20)
    >>> train, test = (noise.normal(size=(40, 2)) + 4.0 * levels[:, None] for _ in "ab")
    >>> found = leakage(train, levels, test, levels, permutations=19)
    >>> found.accuracy > 0.9, found.p
    (True, 0.05)
    """
    fit = train, np.asarray(train_levels), _groups(train_groups, len(train))
    score = test, np.asarray(test_levels), _groups(test_groups, len(test))
    cells = _comparable(fit, score, minimum)
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
    """p of a permutation test: share of permutations, and the data, that reach `found`."""
    return float((1 + np.sum(np.asarray(null) >= found - 1e-12)) / (1 + len(null)))


Side = tuple[np.ndarray, np.ndarray, np.ndarray]  # states, levels, groups
Cells = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # z, levels to fit; to score
Probed = tuple[Read, np.ndarray, np.ndarray]  # levels to fit, to score


def _groups(groups: np.ndarray | None, cells: int) -> np.ndarray:
    return np.zeros(cells) if groups is None else np.asarray(groups)


def _comparable(fit: Side, score: Side, minimum: int) -> list[Cells]:
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
    scores = [balanced_accuracy_score(test, read(levels)) for read, levels, test in probed]
    return float(np.mean(scores))
