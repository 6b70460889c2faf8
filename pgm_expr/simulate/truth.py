r"""Ground truth: count matrices with known causes, in plain numpy.

    z_n     ~ Normal(0, I_D)                                   state of cell n
    eta_ng  = base_g + z_n . loadings_g                        log expression, up to a constant
              + type_effect[type_n]_g + batch_effect[batch_n]_g + condition_effect[condition_n]_g
              + sum_p perturbation_np perturbation_effect_pg
              + sum_(i,j) perturbation_ni perturbation_nj interaction_(i,j)g
              + time_effect_g sigmoid((time_n - time_switch_g) / TIME_WIDTH)
    m_ng    = library_n softmax_g(eta_n)                       mean before the gate
    x_ng    ~ (1 - Bernoulli(gate_g)) NegativeBinomial(mean=m_ng, dispersion=theta_g)

Effects are natural-log fold changes before the softmax. Batch 0 and condition 0 are references
without effect, as are the all-zero perturbation and the null genes. With probability `confounding`
the condition of a cell is set by its type (type mod conditions), otherwise it is uniform: 0 is a
randomised experiment; with 1, effects of conditions and types cannot be separated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit, log_softmax

if TYPE_CHECKING:
    from anndata import AnnData

STATES = ("z", "type", "batch", "condition", "perturbation", "time", "library")
LEVELS = ("type", "batch", "condition")  # states that pick a row of `<name>_effect`
TIME_WIDTH = 0.1  # duration of a gene's switch, in units of time
CHUNK = 2048  # cells held in float64 at once

Cells = slice | np.ndarray | Sequence[int]


@dataclass(frozen=True, eq=False)
class Truth:
    """Simulated cells with the states of cells and the parameters of genes that gave their counts.

    Letters: N cells, G genes, D latent, K types, B batches, C conditions, P perturbations,
    I pairs of perturbations with a known joint effect (observed or held out).

    Methods take counterfactual `changes` of the states z, type, batch, condition, perturbation,
    time and library, each one value for all cells or one a cell: `truth.mean(condition=1)` is the
    expression of the same cells in condition 1, `truth.mean(batch=0)` that without batch effects,
    and `truth.mean(perturbation=[1, 1, 0])` that under a pair that no cell received.

    Examples
    --------
    >>> from pgm_expr.simulate import simulate
    >>> truth = simulate(cells=50, genes=20, seed=0, conditions=2)
    >>> truth.x.shape, truth.mean(condition=1).shape
    ((50, 20), (50, 20))
    >>> sorted(truth.to_anndata().obs)[:3]
    ['batch', 'condition', 'perturbation']
    """

    z: np.ndarray  # (N, D)
    type: np.ndarray  # (N,) in 0..K-1
    batch: np.ndarray  # (N,) in 0..B-1
    condition: np.ndarray  # (N,) in 0..C-1
    perturbation: np.ndarray  # (N, P) multi-hot; all zero is control
    time: np.ndarray  # (N,) in [0, 1]; all zero without a time course
    library: np.ndarray  # (N,) expected total before the gate
    loadings: np.ndarray  # (D, G)
    base: np.ndarray  # (G,)
    type_effect: np.ndarray  # (K, G)
    batch_effect: np.ndarray  # (B, G), row 0 is zero
    condition_effect: np.ndarray  # (C, G), row 0 is zero
    perturbation_effect: np.ndarray  # (P, G)
    pairs: np.ndarray  # (I, 2) perturbations of each pair, observed pairs first
    interaction: np.ndarray  # (I, G) on top of the two single effects
    time_effect: np.ndarray  # (G,)
    time_switch: np.ndarray  # (G,) when the gene is half way
    log_dispersion: np.ndarray  # (G,) log theta: var = m + m^2 / theta
    gate: np.ndarray  # (G,) probability of a zero on top of the NB's own
    x: np.ndarray  # (N, G) int32 counts

    def log_mean(self, cells: Cells = slice(None), **changes: Any) -> np.ndarray:
        """Log mean of the negative binomial, before the gate.

        Parameters
        ----------
        cells
            Which cells; all N by default.
        **changes
            Counterfactual states, each for all N cells or one for all alike.

        Returns
        -------
        np.ndarray
            (n, G).

        Raises
        ------
        ValueError
            If a change is not a state of cells, or has the wrong shape or an unknown level.
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
        """Expected counts, (1 - gate_g) m_ng.

        Parameters
        ----------
        cells, **changes
            See `log_mean`, which also states the errors.

        Returns
        -------
        np.ndarray
            (n, G).
        """
        return (1 - self.gate) * np.exp(self.log_mean(cells, **changes))

    def log_fold_change(
        self, treated: Mapping[str, Any], control: Mapping[str, Any], cells: Cells = slice(None)
    ) -> np.ndarray:
        """Natural-log ratio of the expected counts of the same cells under two sets of changes.

        It is the causal effect, which a comparison of conditions estimates only without
        confounding. It includes the softmax, so a null gene changes slightly with the others.

        Parameters
        ----------
        treated, control
            Changes, see `log_mean`, which also states the errors.
        cells
            Cells that are averaged over; all N by default.

        Returns
        -------
        np.ndarray
            (G,).

        Examples
        --------
        >>> from pgm_expr.simulate import simulate
        >>> truth = simulate(cells=50, genes=20, seed=0, conditions=2, null=1.0)
        >>> effect = truth.log_fold_change({"condition": 1}, {"condition": 0})
        >>> bool(np.allclose(effect, 0))  # all genes are null
        True
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
        """New counts of the same cells, or of changed ones.

        Gamma-Poisson, then the gate. Each of the three has a separate stream of random numbers,
        so that counts do not depend on `chunk`.

        Parameters
        ----------
        seed
            Seed, or a generator.
        chunk
            Cells held in float64 at once.
        **changes
            See `log_mean`, which also states the errors.

        Returns
        -------
        np.ndarray
            Counts (N, G), int32.
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
        """The cells as an AnnData: counts in `X`, what an analyst would observe in `obs`.

        Returns
        -------
        AnnData
            Counts as CSR. The rest of the truth has its field name with the prefix `truth_`: by
            cell in `obs` or `obsm`, by gene in `var` or `varm` (transposed, (G, rows)), and
            `truth_pairs` in `uns`.
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
        old = getattr(self, name)
        if name not in changes:
            return old
        new = np.asarray(changes[name])
        if new.shape not in {old.shape, old.shape[1:], ()}:
            raise ValueError(
                f"{name} must have shape {old.shape}, or {old.shape[1:]} for all cells alike: "
                f"got {new.shape}. Give one value a cell, or one for all."
            )
        if name in LEVELS:
            levels = range(len(getattr(self, f"{name}_effect")))
            unknown = [level for level in np.unique(new).tolist() if level not in levels]
            if unknown or new.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} must be whole numbers below {len(levels)}: "
                    f"got {unknown or new.dtype}. Name simulated levels."
                )
        return np.broadcast_to(new, old.shape)
