r"""Association of states with metadata, beside that of permuted metadata.

    readability   R^2 = 1 - sum (y - prediction)^2 / sum (y - m)^2 of a number y on test cells,
                  predicted from their states by a probe; m is the mean over the training cells
    explained     share of the total variance of states z that columns explain,
                  |Q' (z - m)|^2 / |z - m|^2, Q an orthonormal basis of the columns (for levels:
                  between-group sum of squares over total); of columns beyond given ones, what
                  they add to those, against permuted residuals (Freedman and Lane)

R^2 of held-out cells is below 0 where nothing can be predicted, and the share explained above 0 by
(rank of the columns) / (N - 1): compare with `chance`, the mean over permutations.

Freedman and Lane, J. Business and Economic Statistics 1983, https://doi.org/10.2307/1391660
Hoffman and Schadt (variancePartition), BMC Bioinformatics 2016,
https://doi.org/10.1186/s12859-016-1323-z
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .fitted_probes import Probe, Read, ridge
from .leakage import share_reaching

LEAST = 20  # cells


class Readability(NamedTuple):
    """Held-out R^2 of a number predicted from states, beside that of permuted numbers.

    Parameters
    ----------
    r2
        Of all groups together.
    chance
        Mean over permutations.
    p
        Share of permutations, and the data, that reach it.
    groups
        Number of groups that could be probed.
    """

    r2: float
    chance: float
    p: float
    groups: int


class Explained(NamedTuple):
    """Share of the variance of states that columns explain, beside that of permuted states.

    Parameters
    ----------
    share
        Of the total variance.
    chance
        Mean over permutations.
    p
        Share of permutations, and the data, that reach it.
    cells
        Number of cells without a missing value.
    """

    share: float
    chance: float
    p: float
    cells: int


def readability(
    train: np.ndarray,
    train_numbers: np.ndarray,
    test: np.ndarray,
    test_numbers: np.ndarray,
    *,
    train_groups: np.ndarray | None = None,
    test_groups: np.ndarray | None = None,
    probe: Probe = ridge,
    minimum: int = LEAST,
    permutations: int = 200,
    seed: int = 0,
) -> Readability:
    """How well latent states predict a number (log library, age).

    As `leakage`, with R^2: a probe within each group, numbers permuted among the cells of a group
    and side.

    Parameters
    ----------
    train, test
        States of training and of test cells, (N, D) and (M, D).
    train_numbers, test_numbers
        Their numbers, (N,) and (M,), NaN where missing.
    train_groups, test_groups
        Their groups; one group by default.
    probe
        See `fitted_probes`.
    minimum
        Training cells, and test cells, of known numbers that a group needs.
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
    >>> z = np.random.default_rng(0).normal(size=(60, 2))
    >>> found = readability(z[:30], z[:30, 0], z[30:], z[30:, 0], permutations=19)
    >>> found.r2 > 0.9, found.p
    (True, 0.05)
    """
    fit = _known_numbers(train, train_numbers, train_groups)
    score = _known_numbers(test, test_numbers, test_groups)
    rng, errors = np.random.default_rng(seed), []
    for group in np.unique(fit[2]):
        (z, numbers), (other, target) = (_within(side, group) for side in (fit, score))
        if min(len(numbers), len(target)) >= minimum and np.ptp(numbers) > 0:
            errors.append(_errors(probe(z, other), numbers, target, permutations, rng))
    if not errors:
        raise ValueError(
            f"no group has {minimum} training and {minimum} test cells whose numbers are known "
            "and differ. Lower `minimum`, or probe without groups."
        )
    missed, total = np.sum(errors, axis=0)
    found, *null = 1 - missed / total
    return Readability(
        float(found), float(np.mean(null)), share_reaching(null, found), len(errors)
    )


Side = tuple[np.ndarray, np.ndarray, np.ndarray]  # states, numbers, groups


def _known_numbers(z: np.ndarray, numbers: np.ndarray, groups: np.ndarray | None) -> Side:
    numbers = np.asarray(numbers, np.float64)
    groups = np.zeros(len(z)) if groups is None else np.asarray(groups)
    known = np.isfinite(numbers)
    return z[known], numbers[known], groups[known]


def _within(side: Side, group: object) -> tuple[np.ndarray, np.ndarray]:
    z, numbers, groups = side
    return z[groups == group], numbers[groups == group]


def _errors(
    read: Read,
    numbers: np.ndarray,
    target: np.ndarray,
    permutations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Squared errors of probe and mean, (2, 1 + permutations): of the data, then permuted."""
    fit, real = (
        np.column_stack([each, *(rng.permutation(each) for _ in range(permutations))])
        for each in (numbers, target)
    )
    return np.stack([((real - guess) ** 2).sum(0) for guess in (read(fit), numbers.mean())])


def explained(
    z: np.ndarray,
    columns: Sequence[np.ndarray],
    *,
    given: Sequence[np.ndarray] = (),
    permutations: int = 200,
    seed: int = 0,
) -> Explained:
    """Share of the variance of states that columns explain, beyond columns given.

    Parameters
    ----------
    z
        States, (N, D).
    columns
        Integers (N,), levels with -1 for missing, or floats (N,) or (N, C), NaN where missing.
        Cells with a missing value are left out.
    given
        Columns that the others are explained beyond.
    permutations
        Number of permutations.
    seed
        Of the permutations.

    Raises
    ------
    ValueError
        For fewer than 20 cells or two per column, and where columns or states do not vary.

    Examples
    --------
    >>> groups = np.repeat([0, 1], 20)
    >>> z = np.random.default_rng(0).normal(size=(40, 2)) + 9.0 * groups[:, None]
    >>> explained(z, [groups], permutations=19).share > 0.9
    True
    """
    known = np.all([_known(column) for column in (*columns, *given)], axis=0)
    z = np.asarray(z, np.float64)[known]
    _refuse_few(len(z), LEAST, len(columns) + len(given))
    ones = np.ones((len(z), 1))
    base = _basis(np.hstack([ones, *(_design(column[known]) for column in given)]))
    new = np.hstack([_design(column[known]) for column in columns])
    added = _basis(_beyond(base, new))
    _refuse_few(len(z), 2 * (base.shape[1] + added.shape[1]), base.shape[1] + added.shape[1])
    total = float(((z - z.mean(0)) ** 2).sum())
    _refuse_constant(len(z), total > 0, added.shape[1] > 0 or base.shape[1] > 1)
    rest, rng = _beyond(base, z), np.random.default_rng(seed)
    null = [_sum(added, rng.permutation(rest)) / total for _ in range(permutations)]
    found = _sum(added, rest) / total
    return Explained(found, float(np.mean(null)), share_reaching(null, found), len(z))


def _known(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "iu":
        return column >= 0
    return np.isfinite(column).reshape(len(column), -1).all(1)


def _design(column: np.ndarray) -> np.ndarray:
    """Levels one-hot, numbers standardised: (N, C)."""
    if column.dtype.kind in "iu":
        return (column[:, None] == np.unique(column)).astype(np.float64)
    values = column.reshape(len(column), -1).astype(np.float64)
    return (values - values.mean(0)) / np.where(np.ptp(values, 0) > 0, values.std(0), 1.0)


def _beyond(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Residuals of values after projection on orthonormal columns."""
    return values - base @ (base.T @ values)


def _basis(columns: np.ndarray, precision: float = 1e-9) -> np.ndarray:
    """Orthonormal columns of the same span."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > precision * np.sqrt(len(columns))]


def _sum(basis: np.ndarray, values: np.ndarray) -> float:
    return float(((basis.T @ values) ** 2).sum())


def _refuse_few(cells: int, least: int, columns: int) -> None:
    if cells < least:
        raise ValueError(
            f"{cells} cells without a missing value are too few for {columns} columns. Pass "
            f"{least} or more, or fewer columns."
        )


def _refuse_constant(cells: int, states_vary: bool, columns_vary: bool) -> None:
    if not columns_vary:
        raise ValueError(f"the columns are the same in all {cells} cells. Leave them out.")
    if not states_vary:
        raise ValueError(f"states do not vary over {cells} cells. Check the fit first.")
