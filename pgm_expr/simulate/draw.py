"""Simulate cells with known states, effects and confounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import logsumexp

from .truth import CHUNK, Truth


@dataclass(frozen=True)
class Scales:
    """Standard deviations over genes of each effect, on the natural-log scale.

    Parameters
    ----------
    base
        Base expression.
    latent
        Continuous state, all dimensions together.
    type, batch, condition, perturbation, time
        Effect of each level, and of the time course.
    interaction
        Joint effect of two perturbations beyond the sum of their effects.

    Examples
    --------
    >>> Scales(type=2.0).type, Scales().batch
    (2.0, 0.3)
    """

    base: float = 1.5
    latent: float = 0.7
    type: float = 0.7
    batch: float = 0.3
    condition: float = 0.7
    perturbation: float = 0.7
    interaction: float = 0.0
    time: float = 1.5


def simulate(
    cells: int,
    genes: int,
    *,
    seed: int,
    latent: int = 5,
    types: int = 4,
    batches: int = 1,
    conditions: int = 1,
    confounding: float = 0.0,
    perturbations: int = 0,
    combinations: Iterable[tuple[int, int]] = (),
    held_out: Iterable[tuple[int, int]] = (),
    time: bool = False,
    median_library: float = 1000.0,
    library_sd: float = 0.4,
    dispersion: tuple[float, float] = (2.0, 0.5),
    gate: float = 0.0,
    null: float = 0.5,
    scales: Scales | None = None,
    chunk: int = CHUNK,
) -> Truth:
    """Simulate cells with known causes; equal arguments and seed give equal cells.

    Parameters
    ----------
    cells
        Number of cells N.
    genes
        Number of genes G.
    seed
        Seed of genes, cells and counts.
    latent
        Dimensions D of the continuous state of a cell.
    types
        Number of cell types K.
    batches
        Number of batches B.
    conditions
        Number of conditions C.
    confounding
        From 0 to 1, how strongly the condition follows the type.
    perturbations
        Number of perturbations P, which cells receive alone or not at all.
    combinations
        Pairs of perturbations that some cells receive together.
    held_out
        Pairs that no cell receives, but whose joint effect is part of the truth.
    time
        Whether genes switch along a time that is uniform in [0, 1].
    median_library
        Median of the log-normal library.
    library_sd
        Standard deviation of the log library.
    dispersion
        Median of theta over genes, and standard deviation of log theta.
    gate
        Mean over genes of the probability of an additional zero.
    null
        Share of genes without effect, drawn for each condition, perturbation, interaction and
        the time course separately; 1 removes these effects.
    scales
        Standard deviations of each kind of effect; `Scales()` by default.
    chunk
        Cells simulated at once, which bounds memory and does not change the counts.

    Returns
    -------
    Truth
        Counts, states of cells and parameters of genes.

    Raises
    ------
    ValueError
        If a number is out of range, or a pair does not name two different perturbations.

    Examples
    --------
    >>> truth = simulate(cells=100, genes=30, seed=0, types=3, batches=2)
    >>> truth.x.shape, truth.type_effect.shape
    ((100, 30), (3, 30))
    >>> bool((truth.x == simulate(cells=100, genes=30, seed=0, types=3, batches=2).x).all())
    True
    """
    sizes = dict(types=types, batches=batches, conditions=conditions, chunk=chunk, cells=cells)
    _check_sizes(sizes | {"genes": genes}, at_least=1)
    _check_sizes({"latent": latent, "perturbations": perturbations}, at_least=0)
    _check_rates(confounding, null, gate, median_library, library_sd, dispersion)
    if confounding and types < conditions:
        raise ValueError(
            "confounding requires a type for each condition: got "
            f"{conditions} conditions and {types} types. Pass more types."
        )
    seen, unseen = list(combinations), list(held_out)
    pairs = _check_pairs(seen + unseen, perturbations)
    scales = scales or Scales()
    gene_rng, cell_rng, count_rng = np.random.default_rng(seed).spawn(3)

    base = gene_rng.normal(0, scales.base, genes)
    effects = partial(_effects, gene_rng, base)
    type = cell_rng.integers(types, size=cells)
    randomised = cell_rng.random(cells) >= confounding
    single = np.eye(perturbations)
    treatments = [np.zeros(perturbations), *single, *(single[i] + single[j] for i, j in seen)]
    truth = Truth(
        z=cell_rng.normal(size=(cells, latent)),
        type=type,
        batch=cell_rng.integers(batches, size=cells),
        condition=np.where(
            randomised, cell_rng.integers(conditions, size=cells), type % conditions
        ),
        perturbation=np.stack(treatments)[cell_rng.integers(len(treatments), size=cells)],
        time=cell_rng.random(cells) * time,
        library=median_library * np.exp(cell_rng.normal(0, library_sd, cells)),
        loadings=gene_rng.normal(0, scales.latent / max(latent, 1) ** 0.5, (latent, genes)),
        base=base,
        type_effect=effects(types, scales.type),
        batch_effect=effects(batches, scales.batch, reference=True),
        condition_effect=effects(conditions, scales.condition, null, reference=True),
        perturbation_effect=effects(perturbations, scales.perturbation, null),
        pairs=pairs,
        interaction=effects(len(pairs), scales.interaction, null),
        time_effect=effects(1, scales.time, null)[0] * time,
        time_switch=gene_rng.random(genes),
        log_dispersion=gene_rng.normal(np.log(dispersion[0]), dispersion[1], genes),
        gate=gene_rng.beta(10 * gate, 10 * (1 - gate), genes) if gate else np.zeros(genes),
        x=np.empty((0, genes), np.int32),
    )
    return replace(truth, x=truth.draw(count_rng, chunk=chunk))


def _effects(
    rng: np.random.Generator,
    base: np.ndarray,
    rows: int,
    sd: float,
    null: float = 0.0,
    reference: bool = False,
) -> np.ndarray:
    """Sparse log fold changes (rows, G); row 0 is zero where it is the reference."""
    changed = rng.random((rows, len(base))) >= null
    effect = rng.normal(0, sd, changed.shape)
    if reference:
        changed[0] = False
    # The means of a cell add up to its library. Without this shift, changed genes that increase
    # as a group would lower the counts of the null genes, which would then have an effect.
    log_gain = [
        logsumexp((base + row)[to]) - logsumexp(base[to]) if to.any() else 0.0
        for row, to in zip(effect, changed, strict=True)
    ]
    return np.where(changed, effect - np.reshape(log_gain, (-1, 1)), 0.0)


def _check_sizes(sizes: Mapping[str, int], at_least: int) -> None:
    for name, size in sizes.items():
        if size < at_least:
            raise ValueError(f"{name} must be at least {at_least}: got {size}. Pass more.")


def _check_rates(
    confounding: float,
    null: float,
    gate: float,
    median_library: float,
    library_sd: float,
    dispersion: tuple[float, float],
) -> None:
    for name, share in {"confounding": confounding, "null": null, "gate": gate}.items():
        if not 0 <= share <= 1 or (name == "gate" and share == 1):
            raise ValueError(f"{name} must be from 0 to 1 (gate: below 1): got {share}.")
    spreads = {"the library": (median_library, library_sd), "dispersion": dispersion}
    for name, (median, sd) in spreads.items():
        if not (0 < median < np.inf and 0 <= sd < np.inf):
            raise ValueError(
                f"{name} is log-normal with a median above 0 and an sd of at least 0: "
                f"got {median} and {sd}. Give finite numbers (theta 1e8 is as good as Poisson)."
            )


def _check_pairs(pairs: list[tuple[int, int]], perturbations: int) -> np.ndarray:
    for pair in pairs:
        if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set(range(perturbations)):
            raise ValueError(
                f"a combination is two of {perturbations} perturbations: got {pair}. "
                "Name two different ones, counted from 0."
            )
    if len({frozenset(pair) for pair in pairs}) < len(pairs):
        raise ValueError(f"each pair must be given once: got {pairs}. Drop the repeated.")
    return np.array(pairs, dtype=int).reshape(-1, 2)  # (I, 2)
