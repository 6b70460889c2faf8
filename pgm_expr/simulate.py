r"""Ground truth: count matrices whose every cause is known, in plain numpy.

    z_n     ~ Normal(0, I_D)                                   state of cell n
    eta_ng  = base_g + z_n . loadings_g                        log expression, up to a constant
              + type_effect[type_n]_g + batch_effect[batch_n]_g + condition_effect[condition_n]_g
              + sum_p perturbation_np perturbation_effect_pg
              + sum_(i,j) perturbation_ni perturbation_nj interaction_(i,j)g
              + time_effect_g sigmoid((time_n - time_switch_g) / TIME_WIDTH)
    m_ng    = library_n softmax_g(eta_n)                       mean before the gate
    x_ng    ~ (1 - Bernoulli(gate_g)) NegativeBinomial(mean=m_ng, dispersion=theta_g)

Effects are natural-log fold changes before the softmax; batch 0 and condition 0 are references
with no effect, as are the all-zero perturbation and the null genes. With probability
`confounding` the condition of a cell is decided by its type (type mod conditions), otherwise
it is drawn uniformly: 0 is a randomised experiment, 1 can't be told from a difference of types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit, log_softmax, logsumexp

if TYPE_CHECKING:
    from anndata import AnnData

STATES = ("z", "type", "batch", "condition", "perturbation", "time", "library")
LEVELS = ("type", "batch", "condition")  # states that pick a row of `<name>_effect`
TIME_WIDTH = 0.1  # how long a gene takes to switch, in units of time
CHUNK = 2048  # cells held in float64 at once

Cells = slice | np.ndarray | Sequence[int]


@dataclass(frozen=True)
class Scales:
    """Standard deviations over genes, on the natural-log scale, of each part of the truth."""

    base: float = 1.5
    latent: float = 0.7
    type: float = 0.7
    batch: float = 0.3
    condition: float = 0.7
    perturbation: float = 0.7
    interaction: float = 0.0
    time: float = 1.5


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is known about simulated cells: their states, the genes' parameters, the counts.

    Letters: N cells, G genes, D latent, K types, B batches, C conditions, P perturbations,
    I pairs of perturbations with a known joint effect (seen or held out).

    Every question can be asked of changed cells: `truth.mean(condition=1)` is what the same
    cells would express in condition 1, `truth.mean(batch=0)` without batch effects, and
    `truth.mean(perturbation=[1, 1, 0])` under a pair nobody measured. A change is a value for
    all cells or one a cell, for any of `z, type, batch, condition, perturbation, time, library`.
    """

    z: np.ndarray  # (N, D)
    type: np.ndarray  # (N,) in 0..K-1
    batch: np.ndarray  # (N,) in 0..B-1
    condition: np.ndarray  # (N,) in 0..C-1
    perturbation: np.ndarray  # (N, P) multi-hot; all zero is control
    time: np.ndarray  # (N,) in [0, 1]; all zero where time was not asked for
    library: np.ndarray  # (N,) expected total before the gate
    loadings: np.ndarray  # (D, G)
    base: np.ndarray  # (G,)
    type_effect: np.ndarray  # (K, G)
    batch_effect: np.ndarray  # (B, G), row 0 is zero
    condition_effect: np.ndarray  # (C, G), row 0 is zero
    perturbation_effect: np.ndarray  # (P, G)
    pairs: np.ndarray  # (I, 2) perturbations of each pair, seen pairs first
    interaction: np.ndarray  # (I, G) on top of the two single effects
    time_effect: np.ndarray  # (G,)
    time_switch: np.ndarray  # (G,) when the gene is half way
    log_dispersion: np.ndarray  # (G,) log theta: var = m + m^2 / theta
    gate: np.ndarray  # (G,) probability of a zero on top of the NB's own
    x: np.ndarray  # (N, G) int32 counts

    def log_mean(self, cells: Cells = slice(None), **changes: Any) -> np.ndarray:
        """Log mean of the negative binomial, before the gate, of `cells` (all N) -> (n, G).

        ValueError where a change names no state of a cell, has a wrong shape or level.
        """
        if unknown := changes.keys() - set(STATES):
            raise ValueError(f"a cell has no {sorted(unknown)}: change some of {STATES}.")
        at = {name: self._state(name, changes)[cells] for name in STATES}
        eta = self.base + at["z"] @ self.loadings  # (n, G)
        for name in LEVELS:
            eta += getattr(self, f"{name}_effect")[at[name]]
        first, second = self.pairs.T
        both = at["perturbation"][:, first] * at["perturbation"][:, second]  # (n, I)
        eta += at["perturbation"] @ self.perturbation_effect + both @ self.interaction
        if self.time_effect.any():
            since = at["time"][:, None] - self.time_switch
            eta += self.time_effect * expit(since / TIME_WIDTH)
        return np.log(at["library"])[:, None] + log_softmax(eta, axis=1)

    def mean(self, cells: Cells = slice(None), **changes: Any) -> np.ndarray:
        """Expected counts, gate included, (1 - gate_g) m_ng -> (n, G); errors as `log_mean`."""
        return (1 - self.gate) * np.exp(self.log_mean(cells, **changes))

    def log_fold_change(
        self, treated: Mapping[str, Any], control: Mapping[str, Any], cells: Cells = slice(None)
    ) -> np.ndarray:
        """Log ratio of expected counts, averaged over the same `cells` under two changes -> (G,).

        `truth.log_fold_change({"condition": 1}, {"condition": 0})` is the causal effect that a
        comparison of conditions estimates only where they are not confounded. It holds the
        softmax, so a null gene moves slightly when the others move; errors as `log_mean`.
        """
        chosen = np.arange(len(self.library))[cells]
        chunks = np.array_split(chosen, max(1, len(chosen) // CHUNK))
        totals = [
            sum(self.mean(chunk, **changes).sum(0) for chunk in chunks)
            for changes in (treated, control)
        ]
        return np.log(totals[0]) - np.log(totals[1])

    def draw(
        self, seed: int | np.random.Generator, *, chunk: int = CHUNK, **changes: Any
    ) -> np.ndarray:
        """New counts of the same cells, or of changed ones -> (N, G) int32; errors as `log_mean`.

        Gamma-Poisson, then the gate. Each of the three has its own stream of random numbers,
        so the counts don't depend on `chunk`, the number of cells held in float64 at once.
        """
        gammas, poissons, gates = np.random.default_rng(seed).spawn(3)
        x = np.empty((len(self.library), len(self.base)), np.int32)  # (N, G)
        theta = np.exp(self.log_dispersion)
        for start in range(0, len(x), chunk):
            rows = slice(start, start + chunk)
            mean = np.exp(self.log_mean(rows, **changes))
            x[rows] = poissons.poisson(mean * gammas.standard_gamma(theta, mean.shape) / theta)
            if self.gate.any():
                x[rows][gates.random(mean.shape) < self.gate] = 0
        return x

    def to_anndata(self) -> AnnData:
        """The cells as an AnnData: counts as CSR in `X`, what an analyst would know in `obs`.

        The rest of the truth keeps its field name with `truth_` in front: per cell in `obs` or
        `obsm`, per gene in `var` or `varm` (transposed, (G, rows)), `truth_pairs` in `uns`.
        """
        from anndata import AnnData  # only here: the simulator itself needs no AnnData

        genes = [f"gene{g}" for g in range(len(self.base))]
        gene_vectors = ("base", "time_effect", "time_switch", "log_dispersion", "gate")
        effects = (f"{f}_effect" for f in ("type", "batch", "condition", "perturbation"))
        gene_rows = ("loadings", *effects, "interaction")
        return AnnData(
            sparse.csr_matrix(self.x, dtype=np.float32),
            obs=self._obs(),
            var=pd.DataFrame({f"truth_{f}": getattr(self, f) for f in gene_vectors}, genes),
            obsm={f"truth_{f}": getattr(self, f) for f in ("z", "perturbation")},
            varm={f"truth_{f}": getattr(self, f).T for f in gene_rows},
            uns={"truth_pairs": self.pairs},
        )

    def _obs(self) -> pd.DataFrame:
        names = [
            "+".join(f"p{p}" for p in np.flatnonzero(row)) or "control"
            for row in self.perturbation
        ]
        obs = pd.DataFrame(index=[f"cell{n}" for n in range(len(self.library))])
        for field in LEVELS:
            obs[field] = pd.Categorical([f"{field}{level}" for level in getattr(self, field)])
        return obs.assign(
            perturbation=pd.Categorical(names), time=self.time, truth_library=self.library
        )

    def _state(self, name: str, changes: Mapping[str, Any]) -> np.ndarray:
        """One state of all N cells, changed where `changes` names it."""
        own = getattr(self, name)
        if name not in changes:
            return own
        new = np.asarray(changes[name])
        if new.shape not in {own.shape, own.shape[1:], ()}:
            raise ValueError(
                f"{name} must have shape {own.shape}, or {own.shape[1:]} for all cells alike: "
                f"got {new.shape}. Give one value a cell, or one for all."
            )
        if name in LEVELS:
            known = range(len(getattr(self, f"{name}_effect")))
            strange = [level for level in np.unique(new).tolist() if level not in known]
            if strange or new.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} must be whole numbers below {len(known)}: "
                    f"got {strange or new.dtype}. Name simulated levels."
                )
        return np.broadcast_to(new, own.shape)


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
    """Draw a truth and its counts; the same arguments and `seed` give the same truth.

    Args:
        cells, genes, latent, types, batches, conditions, perturbations: sizes N, G, D, K, B, C, P.
        confounding: 0..1, how strongly the condition follows the type.
        combinations: pairs of perturbations that some cells receive, beside control and singles.
        held_out: pairs that no cell receives but whose joint effect is part of the truth.
        time: whether genes switch on or off along a time that is uniform in [0, 1].
        median_library: median of the log-normal library, `library_sd` its sd on the log scale.
        dispersion: median of theta over genes and its sd on the log scale.
        gate: mean over genes of the probability of an extra zero.
        null: share of genes that a condition, perturbation, interaction or time leaves alone,
            drawn anew for each; 1 plants no such effect at all.
        scales: how large each kind of effect is.
        chunk: cells simulated at once, for memory; the counts don't depend on it.

    Raises:
        ValueError: a number out of range, or a pair that does not name two perturbations.
    """
    sizes = dict(types=types, batches=batches, conditions=conditions, chunk=chunk, cells=cells)
    _check_sizes(sizes | {"genes": genes}, at_least=1)
    _check_sizes({"latent": latent, "perturbations": perturbations}, at_least=0)
    _check_rates(confounding, null, gate, median_library, library_sd, dispersion)
    if confounding and types < conditions:
        raise ValueError(
            "confounding gives each condition types of its own: got "
            f"{conditions} conditions and {types} types. Ask for more types."
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
    # The softmax shares out a fixed total. Without this shift, changed genes that gain as a
    # group would take counts from the null genes, and "no effect" would show up as one.
    log_gain = [
        logsumexp((base + row)[to]) - logsumexp(base[to]) if to.any() else 0.0
        for row, to in zip(effect, changed, strict=True)
    ]
    return np.where(changed, effect - np.reshape(log_gain, (-1, 1)), 0.0)


def _check_sizes(sizes: Mapping[str, int], at_least: int) -> None:
    for name, size in sizes.items():
        if size < at_least:
            raise ValueError(f"{name} must be at least {at_least}: got {size}. Ask for more.")


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
            raise ValueError(f"{name} is a share: got {share}. Give 0 to 1 (gate: below 1).")
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
        raise ValueError(f"a pair is seen or held out, once: got {pairs}. Drop the repeated one.")
    return np.array(pairs, dtype=int).reshape(-1, 2)  # (I, 2)
