"""A criticism on one screen of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

SCREEN = 5  # worst cells that are named


def criticism_page(told: Mapping[str, Any]) -> Group:
    """What was measured, section by section; then what was not, and why."""
    parts: list[RenderableType] = [
        f"{told['cells']} held-out cells, {told['draws']} draws of each."
    ]
    for name, page in PAGES.items():
        if name in told:
            parts += page(told[name])
    parts += [f"Not measured: {name}: {why}" for name, why in told["not_measured"].items()]
    return Group(*parts)


def _heldout(row: Mapping[str, Any]) -> list[RenderableType]:
    refined = ""
    if row["refined_elbo"] is not None:
        refined = (
            f" Posteriors of cells' own gain {row['refined_gain']:+.2f} ± "
            f"{row['refined_gain_se']:.2f} nats of ELBO ({row['refined_cells']} cells)."
        )
    return [
        f"Held out, nats per cell: ELBO {row['elbo']:.2f}, IWAE at K = {row['k']} "
        f"{row['iwae']:.2f}, at {4 * row['k']} {row['iwae_4k']:.2f} (standard error "
        f"{row['iwae_se']:.2f}).{refined}"
    ]


def _health(row: Mapping[str, Any]) -> list[RenderableType]:
    k, ess = row["pareto_k"], row["ess"]
    lines = [
        f"Guide: Pareto k {_spread(k)}; effective draws {100 * ess['q50']:.1f}% in the median; "
        f"bound leaves {row['iwae_gap']:.2f} nats.",
        f"State: {row['active_units']} of {row['dimensions']} dimensions in use, KL "
        f"{sum(row['kl']):.2f} nats: {row['mutual_information']:.2f} tell cells apart, "
        f"{row['aggregate_gap']:.2f} are between posteriors together and the prior.",
    ]
    if row["k_refined"]:
        lines.insert(
            1, f"Once each cell's posterior is its own: Pareto k {_spread(row['k_refined'])}."
        )
    table = Table(title="Cells whose posteriors are the worst", title_justify="left", box=None)
    for name in ("cell", "label", "library", "gap", "k"):
        table.add_column(name, justify="left" if name in ("cell", "label") else "right")
    for cell in row["worst_cells"][:SCREEN]:
        table.add_row(
            cell["cell"],
            cell["label"] or "",
            f"{cell['library']:,.0f}",
            f"{cell['gap']:.2f}",
            f"{cell['k']:.2f}",
        )
    return [*lines, table]


def _reference(row: Mapping[str, Any]) -> list[RenderableType]:
    cells = len(row["cells"])
    said = "; ".join(f"{who}: {_agreement(row[key])}" for key, who in QS.items())
    return [
        f"Beside NUTS on {cells} cells (R-hat up to {row['rhat']:.2f}, at least {row['ess']:,.0f} "
        f"effective draws). {said}."
    ]


QS = {"guide": "Guide", "refined": "Posteriors of cells' own"}


def _agreement(row: Mapping[str, float]) -> str:
    return (
        f"mean off by {row['shift']:.2f} sd, sd x {row['width']:.2f}, 90% intervals hold "
        f"{row['covers_0.9']:.0%}"
    )


def _sbc(row: Mapping[str, Any]) -> list[RenderableType]:
    flagged = ", ".join(row["flagged"]) or "nothing"
    return [
        f"Calibration of the guide (SBC): max |coverage - nominal| {row['error']:.3f} of one "
        f"dimension, {row['pooled_error']:.3f} of all together; flagged: {flagged} (a right guide "
        f"is flagged {row['alpha']:.0%} of the time)."
    ]


def ppc_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Errors of drawn counts beside those of other real cells."""
    table = Table(title=title, title_justify="left")
    for name in ("check", "drawn", "real against real", "genes beyond all draws"):
        table.add_column(name, justify="left" if name == "check" else "right")
    for row in rows:
        extreme = f"{row['extreme']:.1%}" if "extreme" in row else ""
        table.add_row(row["check"], f"{row['drawn']:.4f}", f"{row['floor']:.4f}", extreme)
    return table


def _ppc(row: Mapping[str, Any]) -> list[RenderableType]:
    return [
        ppc_table(row["rows"], "Counts drawn from the posteriors: errors, 0 is best"),
        ppc_table(row["prior_rows"], "Counts drawn from the prior"),
    ]


def _calibration(row: Mapping[str, Any]) -> list[RenderableType]:
    bins = row["rows"]
    lines = [
        f"One half of each cell's counts predicted from the other: {row['inside']:.1%} of "
        f"randomised PITs in the central 95%, {row['low']:.1%} below, {row['high']:.1%} above; "
        f"{sum(each['holds'] for each in bins)} of {len(bins)} bins of genes and labels hold."
    ]
    better = (
        f"{each['score']} {each['difference']:+.2f} ± {each['se']:.2f} against {each['rival']}"
        for each in row["scores"]
    )
    return [*lines, f"Better by {'; '.join(better)}."]


def _two_sample(row: Mapping[str, Any]) -> list[RenderableType]:
    return [
        f"Cells drawn from the prior against real ones: AUC {row['auc']:.3f} "
        f"({row['classifier']}; real against real {row['auc_floor']:.3f}), energy distance p "
        f"{row['energy_p']:.3f}, MMD p {row['mmd_p']:.3f}; nearest cell of the fit at "
        f"{row['nearest']:.2f} (held-out cells: {row['nearest_floor']:.2f})."
    ]


def _markers(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    furthest = sorted(rows, key=lambda row: -abs(row["drawn"] - row["held_out"]))
    cells = [
        (row["label"], f"{row['drawn']:.1%}", f"{row['held_out']:.1%}", f"{row['se']:.1%}")
        for row in furthest[:SCREEN]
    ]
    title = f"Markers that are on, labels furthest off of {len(rows)}"
    return [_table(title, ("label", "drawn", "held out", "standard error"), cells)]


def _structure(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    cells = [(row["what"], row["probe"], row["measure"], *_beside(row)) for row in rows]
    names = ("what", "probe", "measure", "score", "chance", "p")
    return [_table("Read from states", names, cells), *_reasons(rows)]


def _explained(told: Mapping[str, Any]) -> list[RenderableType]:
    rows = {row["what"]: (row["alone"], row["beyond"]) for row in told["rows"]}
    rows["together"] = (told["together"],)
    cells = [
        (what, *(figure for each in found for figure in _beside(each)))
        for what, found in rows.items()
    ]
    names = ("column", "alone", "chance", "p", "beyond others", "chance", "p")
    reasons = [{"what": what, **each} for what, found in rows.items() for each in found[:1]]
    return [_table("Share of the states' variance", names, cells), *_reasons(reasons)]


def _mixing(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    figures = (
        f"{row['what']} {row['score']:.3f} (chance {row['chance']:.3f}, p {row['p']:.3f})"
        for row in rows
    )
    return [f"Batches among the nearest states, higher is better mixed: {'; '.join(figures)}."]


def _novelty(told: Mapping[str, Any]) -> list[RenderableType]:
    most = ", ".join(f"{row['cell']} ({row['neighbours']:.2f})" for row in told["most_novel"][:3])
    return [
        f"Novelty: {told['share_beyond_99']:.1%} of cells lie farther out than 99% of those of "
        f"the fit; Spearman of the distance to neighbours with library "
        f"{told['spearman_library']['neighbours']:+.2f}; most novel: {most}."
    ]


def _beside(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Score, chance and p; dashes where they were not measured."""
    return tuple(f"{row[name]:.3f}" if name in row else "-" for name in ("score", "chance", "p"))


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why there are dashes: each reason once."""
    why = {row["what"]: row["why"] for row in rows if "why" in row}
    return [f"Not measured: {what}: {reason}" for what, reason in why.items()]


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Words to the left, figures to the right."""
    table = Table(title=title, title_justify="left", box=None)
    for name in names:
        left = name in ("what", "probe", "measure", "column", "label")
        table.add_column(name, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _typicality(row: Mapping[str, Any]) -> list[RenderableType]:
    least = ", ".join(f"{each['cell']} ({each['score']:.1f})" for each in row["least_typical"][:3])
    return [
        f"Typicality at their depth: {row['share_below_0.05']:.1%} of cells have p < .05 (5% if "
        f"the story were right); Spearman with library {row['spearman_library']:+.2f}; least "
        f"typical: {least}."
    ]


def _differential(row: Mapping[str, Any]) -> list[RenderableType]:
    ceiling = row["ceiling"]
    return [
        f"{row['groups'][0]} against {row['groups'][1]} in posterior draws: log fold changes r "
        f"{row['r']:.3f} (two halves of real cells {ceiling['r']:.3f}), slope {row['slope']:.2f} "
        f"({ceiling['slope']:.2f}), top genes kept {row['top']:.0%} ({ceiling['top']:.0%})."
    ]


def _spread(quantiles: Mapping[str, float]) -> str:
    return f"{quantiles['q50']:.2f} ({quantiles['q05']:.2f} .. {quantiles['q95']:.2f})"


PAGES = {
    "heldout": _heldout,
    "health": _health,
    "reference": _reference,
    "sbc": _sbc,
    "ppc": _ppc,
    "calibration": _calibration,
    "two_sample": _two_sample,
    "markers": _markers,
    "structure": _structure,
    "explained": _explained,
    "mixing": _mixing,
    "novelty": _novelty,
    "typicality": _typicality,
    "differential": _differential,
}
