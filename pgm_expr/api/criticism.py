"""Is the model right, is the guide right, how sure are we: every check of a run, as plain data.

Each section is a function of a `Bench` that returns what JSON can hold. What cannot be measured on
these data (too few cells, no labels, no batches) is told by its reason, never by a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import evaluation, zoo
from ..evaluation import differential, guide_health, pit, ppc, sbc, surgery, thinning, two_sample
from ..evaluation import typicality as unusual
from .bench import Bench, bench

if TYPE_CHECKING:
    from anndata import AnnData

    from .run import Run

CELLS, DRAWS = 500, 1000  # held-out cells, and importance draws of each
FEW = 100  # cells whose posteriors are refined one by one, or looked at in pairs
WORST = 10
Section = Callable[[Bench], dict[str, Any]]


def criticize(
    run: Run,
    data: AnnData | str | Path | None = None,
    *,
    cells: int = CELLS,
    draws: int = DRAWS,
    sections: Iterable[str] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """See `Run.criticize`."""
    on = bench(run, data, cells=cells, draws=draws)
    told = {"cells": len(on.held_out), "draws": draws, "not_measured": {}}
    chosen = [*SECTIONS] if sections is None else [*sections]
    for name in progress(chosen):
        try:
            told[name] = zoo.pick("section", name, SECTIONS)(on)
        except ValueError as error:
            if name not in SECTIONS:
                raise
            told["not_measured"][name] = str(error)
    if hasattr(data, "obs"):
        _write(on, told, data)
    return {key: value for key, value in told.items() if not key.startswith("_")}


def heldout(on: Bench) -> dict[str, Any]:
    """Log p(x | library) three ways: by the guide, by posteriors of cells' own, by weights."""
    weights, some = on.weights, on.first(FEW)
    found = {
        "k": on.draws // 4,
        "measure": zoo.measure(on.run.model),
        "elbo": _mean(weights.elbo),
        "elbo_se": evaluation.standard_error(weights.elbo),
        "iwae": _mean(weights.iwae_quarter),
        "iwae_4k": _mean(weights.iwae),
        "iwae_se": evaluation.standard_error(weights.iwae),
        "refined_elbo": None,
    }
    try:
        refined = evaluation.amortisation_gap(*on.pair, some.batches(), steps=200)
    except ValueError:  # a discrete latent
        return found
    return found | {
        "refined_elbo": _mean(refined.refined),
        "refined_cells": len(some),
        "refined_gain": _mean(refined.gap),
        "refined_gain_se": evaluation.standard_error(refined.gap),
    }


def health(on: Bench) -> dict[str, Any]:
    """What importance weights say of each cell's posterior, and where the KL goes."""
    weights = on.weights
    use, where = on.run.use(on.held_out.batches()), weights.worst(WORST)
    parts = surgery.surgery(*on.pair, on.held_out.batches())
    labels, library = on.labels, on.held_out.library
    rows = [
        {
            "cell": str(on.held_out.names[i]),
            "k": float(weights.pareto_k[i]),
            "gap": float(weights.gap[i]),
            "log_p": float(weights.iwae[i]),
            "library": float(library[i]),
            "label": None if labels is None else str(labels[i]),
        }
        for i in where.tolist()
    ]
    return {
        "draws": on.draws,
        "pareto_k": guide_health.quantiles(weights.pareto_k),
        "share_above_0.7": float((weights.pareto_k > 0.7).float().mean()),
        "ess": guide_health.quantiles(weights.efficiency),
        "iwae_gap": _mean(weights.gap),
        "k_refined": _refined_k(on),
        "kl": use.kl.tolist(),
        "active_units": use.active_units,
        "dimensions": use.loc.shape[1],
        "mutual_information": sum(part.information for part in parts.values()),
        "aggregate_gap": sum(part.aggregate for part in parts.values()),
        "worst_cells": rows,
        "by_cell": {
            "pareto_k": weights.pareto_k.tolist(),
            "ess": weights.efficiency.tolist(),
            "iwae": weights.iwae.tolist(),
            "gap": weights.gap.tolist(),
        },
    }


def _refined_k(on: Bench) -> dict[str, float] | None:
    try:
        some = on.first(FEW)
        refined = guide_health.refined_weights(*on.pair, some.batches(), draws=on.draws)
    except ValueError:
        return None
    return guide_health.quantiles(refined.pareto_k)


def calibrated(on: Bench) -> dict[str, Any]:
    """Simulation-based calibration of the guide, on cells like the held-out ones."""
    found = sbc.sbc(*on.pair, on.held_out.batches())
    curves = {name: curve.tolist() for name, curve in found.ecdf().items()}
    bands = {key: curves.pop(key) for key in ("x", "low", "high")}
    return {
        "error": found.error,
        "pooled_error": found.pooled_error,
        "alpha": found.alpha,
        "flagged": found.flagged,
        "levels": sbc.LEVELS.tolist(),
        "coverage": {name: each.tolist() for name, each in found.coverage.items()},
        "bias": found.bias,
        "ecdf": bands | {"difference": curves},
    }


def predictive(on: Bench) -> dict[str, Any]:
    """Counts drawn from the posteriors, and from the prior, beside real ones."""
    found = {}
    draws = {
        "posterior": lambda: _one_by_one(evaluation.draw_posterior, on.pair, on),
        "prior": lambda: _one_by_one(evaluation.draw_prior, on.pair[:1], on),
    }
    for source, draw in draws.items():
        check = ppc.predictive_check(draw, on.held_out.counts, on.known.counts)
        rows = check.rows()
        if source == "posterior":
            found |= {"rows": rows, "genes": _genes(check)}
            r, ceiling = check.correlation
            found["correlation"] = {"r": r, "ceiling": ceiling}
        else:
            found["prior_rows"] = rows
    return found


def _one_by_one(draw: Callable, halves: tuple, on: Bench) -> Iterable[torch.Tensor]:
    return (draw(*halves, [batch]) for batch in on.held_out.batches())


def _genes(check: ppc.PredictiveCheck) -> dict[str, list[float]]:
    """The points of the panels: real, and the mean over replicates."""
    pairs = {"mean": "mean", "variance": "variance", "zero": "zero rate"}
    real = {f"{k}_real": check.real[name].tolist() for k, name in pairs.items()}
    return real | {f"{k}_drawn": check.drawn[name].mean(0).tolist() for k, name in pairs.items()}


def calibration(on: Bench) -> dict[str, Any]:
    """Randomised PIT of one half of each cell's counts, its state inferred from the other."""
    told = [*_with_types(on)]
    pairs = [*thinning.halves(told)]
    ours = pit.predictions(lambda seen, asked: evaluation.predict(*on.pair, seen, asked), pairs)
    values = ours.pit.cpu().numpy()
    x = torch.cat([asked["x"] for _, asked in pairs]).cpu().numpy()
    rows = pit.by_bin(values, x, on.labels)
    if rows.empty:  # no label has enough held-out cells
        rows = pit.by_bin(values, x, np.full(len(x), "all"), cells=1)
    rows["holds"] = pit.passes(rows)
    histogram, _ = np.histogram(values, 20, (0, 1))
    return {
        **pit.shares(values),
        "histogram": (histogram / histogram.mean()).tolist(),
        "rows": [_plain(row) for row in rows.to_dict("records")],
        "scores": _scores(on, ours, pairs),
    }


def _with_types(on: Bench) -> Iterable[dict[str, torch.Tensor]]:
    """Minibatches that tell the baselines, under another name, the type of each cell."""
    types, start = on.held_out.column("label"), 0
    for batch in on.held_out.batches():
        n = len(batch["library"])
        kinds = np.full(n, -1) if types is None else types[start : start + n]
        start += n
        yield {**batch, "type": torch.as_tensor(kinds, device=batch["x"].device)}


def _scores(on: Bench, ours: pit.Predictions, pairs: list) -> list[dict[str, Any]]:
    """Log score and CRPS better than those of negative binomials, paired over cells."""
    train = torch.from_numpy(on.known.counts.toarray()).float()
    types, rows = on.known.column("label"), []
    rivals = {"per-gene NB": (evaluation.fit_baseline(train), False)}
    if types is not None and (types >= 0).any():
        y, kinds = torch.as_tensor(types), len(on.run.encoding.labels)
        rivals["per-label NB"] = (evaluation.fit_baseline(train[y >= 0], y[y >= 0], kinds), True)
    for name, (rival, knows) in rivals.items():
        other = pit.predictions(_of_baseline(rival, knows), pairs)
        for score, sign in (("log score", 1), ("CRPS", -1)):
            key = score.lower().replace(" ", "_")
            gap = sign * (getattr(ours, key) - getattr(other, key)).double()
            rows.append(
                {"score": score, "rival": name, "difference": _mean(gap)}
                | {"se": evaluation.standard_error(gap)}
            )
    return rows


def _of_baseline(baseline: evaluation.Baseline, knows: bool) -> pit.Predict:
    return lambda seen, asked: baseline.predict(asked["library"], asked["type"] if knows else None)


def told_apart(on: Bench) -> dict[str, Any]:
    """Two-sample tests of cells drawn from the prior, beside the real/real floor."""
    x = torch.cat([*_one_by_one(evaluation.draw_prior, on.pair[:1], on)]).cpu().numpy()
    return two_sample.two_sample(x, on.held_out.counts, on.known.counts)._asdict()


def structure(on: Bench) -> list[dict[str, Any]]:
    """What a linear probe reads of states: the batch within types, and types."""
    z, known = (on.run.use(side.batches()).loc.cpu().numpy() for side in (on.held_out, on.known))
    rows, groups = [], {}
    if on.labels is not None:
        pair = on.known.column("label"), on.held_out.column("label")
        groups = dict(train_groups=pair[0], test_groups=pair[1])
        rows.append(_leak("label", evaluation.leakage(known, pair[0], z, pair[1])))
    if on.held_out.column("batch") is not None:
        pair = on.known.column("batch"), on.held_out.column("batch")
        found = evaluation.leakage(known, pair[0], z, pair[1], **groups)
        rows.append(_leak("batch within label" if groups else "batch", found))
    if not rows:
        raise ValueError("the data name no label and no batch. Fit with labels_key or batch_key.")
    return rows


def _leak(what: str, found: evaluation.Leakage) -> dict[str, Any]:
    return {"what": what, "score": found.accuracy, "chance": found.chance, "p": found.p}


def typical(on: Bench) -> dict[str, Any]:
    """Cells that the story would hardly draw at their depth."""
    found = unusual.typicality(*on.pair, on.held_out.batches(), objective=on.run.story.objective)
    order = np.argsort(found.score)[:WORST]
    ranks = [np.argsort(np.argsort(v)) for v in (found.score, on.held_out.library)]
    return {
        "spearman_library": float(np.corrcoef(*ranks)[0, 1]),
        "share_below_0.05": float((found.p < 0.05).mean()),
        "least_typical": [
            {
                "cell": str(on.held_out.names[i]),
                "p": float(found.p[i]),
                "score": float(found.score[i]),
            }
            for i in order
        ],
        "by_cell": {"typicality": found.score.tolist(), "typicality_p": found.p.tolist()},
    }


def kept_differences(on: Bench) -> dict[str, Any]:
    """Fold changes between the two commonest labels, or batches, in posterior draws."""
    name = next((n for n in ("label", "batch") if on.held_out.column(n) is not None), None)
    if name is None:
        raise ValueError("the data name no label and no batch. Fit with labels_key or batch_key.")
    codes = on.held_out.column(name)
    kinds, sizes = np.unique(codes[codes >= 0], return_counts=True)
    if len(kinds) < 2:
        raise ValueError(f"the held-out cells have one {name}. Hold out more.")
    pair = kinds[np.argsort(-sizes)[:2]]
    at = np.isin(codes, pair)
    groups = (codes[at] == pair[1]).astype(int)
    x = torch.cat([*_one_by_one(evaluation.draw_posterior, on.pair, on)]).cpu().numpy()
    found = differential.kept(on.held_out.counts[at], groups, x[at], groups)
    names = getattr(on.run.encoding, "labels" if name == "label" else "batches")
    row = found._asdict() | {"ceiling": found.ceiling._asdict(), "of": name}
    return _plain(row) | {"groups": [str(names[k]) for k in pair]}


SECTIONS: Mapping[str, Section] = {
    "heldout": heldout,
    "health": health,
    "sbc": calibrated,
    "ppc": predictive,
    "calibration": calibration,
    "two_sample": told_apart,
    "structure": structure,
    "typicality": typical,
    "differential": kept_differences,
}


def _write(on: Bench, told: Mapping[str, Any], data: AnnData) -> None:
    """Figures of each cell to obs, NaN for cells that were not looked at; the rest to uns."""
    at = data.obs_names.get_indexer(on.held_out.names)
    for section in ("health", "typicality"):
        for name, values in told.get(section, {}).get("by_cell", {}).items():
            column = np.full(data.n_obs, np.nan)
            column[at] = values
            data.obs[f"{on.run.prefix}_{name}"] = column
    health = told.get("health", {})
    kept = ("pareto_k", "ess", "kl", "active_units", "mutual_information", "aggregate_gap")
    data.uns[f"{on.run.prefix}_health"] = {k: health[k] for k in kept if k in health}


def _mean(values: torch.Tensor) -> float:
    return values.double().mean().item()


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy's numbers as Python's."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
