"""Plain-text pages for the terminal, as Rich renderables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from .pictures import kept

if TYPE_CHECKING:
    import pandas as pd

COUNTS = "counts given library"
NAMES = {
    "story": "this run",
    "gene_nb": "per-gene NB",
    "label_nb": "per-label NB, given the label",
    "pca": "PCA of the same dimension",
}


def fit_page(notes: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """Story, data, split and training of a run."""
    cells, dims = notes["cells"], notes["dims"]
    seconds = sum(row["seconds"] for row in history)
    return (
        f"Story {notes['story']} on {sum(cells.values())} cells x {dims['genes']} genes"
        + "".join(f", {size} {name}" for name, size in dims.items() if name != "genes")
        + f": {cells['train']} for training, {cells['validation']} validation, "
        f"{cells['test']} test.\n" + _training(history, seconds)
    )


def _training(history: Sequence[Mapping[str, float]], seconds: float) -> str:
    if not history:
        return "Not trained: initial weights, and what the story takes from the data."
    best = kept(history)
    return (
        f"{len(history)} epochs in {seconds:.0f} s; kept epoch {best['epoch']}, validation ELBO "
        f"{best['validation']:.2f} nats per cell."
    )


def metrics_page(metrics: Mapping[str, Any]) -> Group:
    """Held-out likelihood beside baselines, then latent use and draws."""
    measure = metrics.get("measure", COUNTS)
    what = "log p(x | library)" if measure == COUNTS else f"log p of {measure}"
    table = Table(title=f"Held-out cells: {what}, nats per cell", title_justify="left")
    for name in ("model", "log p", "this run minus it", "probe macro-F1"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in metrics["table"]:
        table.add_row(
            NAMES.get(row["model"], row["model"]),
            _number(row.get("log_p"), 2),
            _gap(row),
            _number(row.get("probe_macro_f1"), 3),
        )
    return Group(table, _lines(metrics))


def zoo_page(
    stories: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Callable]],
    objectives: Mapping[str, Callable],
    refused: Mapping[tuple[str, str], str],
) -> Group:
    """Stories, parts and objectives by the names that the command line takes."""
    table = Table("kind", "name", "what it is", box=None, pad_edge=False)
    modules = {
        name: __import__(story.model.__module__, fromlist=["__doc__"])
        for name, story in stories.items()
    }
    for kind, named in {"story": modules, **parts, "objective": objectives}.items():
        table.add_row()
        for number, (name, thing) in enumerate(named.items()):
            table.add_row("" if number else kind, name, _first_line(thing))
    return Group(
        table,
        "",
        *_refused(refused, stories),
        "\npgm-expr zoo --show vae prints a story and its guide.",
    )


def prediction_line(table: pd.DataFrame, labels: Sequence[str]) -> str:
    """Predictions in one line: cells by likeliest label, quantiles of a number."""
    said = [f"{len(table)} cells"]
    if labels:
        counts = table[[*labels]].idxmax(axis=1).value_counts()
        said += [
            f"likeliest label {', '.join(f'{name} {count}' for name, count in counts.items())}"
        ]
    if "sd" in table:
        low, middle, high = table["mean"].quantile([0.05, 0.5, 0.95])
        said += [f"mean {middle:.4g} (90 % of cells {low:.4g} to {high:.4g})"]
        said += [f"median sd {table['sd'].median():.3g}"]
    return "; ".join(said) + "."


def _refused(refused: Mapping[tuple[str, str], str], stories: Collection[str]) -> list[str]:
    """One line per reason, with all combinations that it refuses."""
    first: dict[tuple[str, str], list[str]] = {}
    for (one, other), why in refused.items():
        what = f"the story {other}" if other in stories else other
        first.setdefault((what, why), []).append(one)
    second: dict[tuple[str, str], list[str]] = {}
    for (other, why), ones in first.items():
        second.setdefault((", ".join(ones), why), []).append(other)
    return [
        f"refused: {ones} with {', '.join(others)}: {why}"
        for (ones, why), others in second.items()
    ]


def _lines(metrics: Mapping[str, Any]) -> str:
    fine = metrics["heldout_iwae_2000"]
    speed = metrics["cells_per_second"]
    return (
        f"ELBO {metrics['heldout_elbo']:.2f}, IWAE at K = 500 {metrics['heldout_iwae']:.2f} "
        f"(standard error over cells {metrics['heldout_iwae_se']:.2f}), at K = 2,000 {fine:.2f}"
        f"{_monte_carlo(metrics)}.\n"
        f"{_latent(metrics)}\n"
        f"Zero rate per gene, mean absolute error: draws from the prior "
        f"{metrics['zero_rate_mae']:.4f}, from the posterior "
        f"{metrics['posterior_zero_rate_mae']:.4f}; real against real "
        f"{metrics['zero_rate_floor']:.4f}."
        + _amortisation(metrics)
        + (f"\nTraining saw {speed:,.0f} cells per second." if speed else "")
    )


def _monte_carlo(metrics: Mapping[str, Any]) -> str:
    if "heldout_elbo_mcse" not in metrics:  # measured by a version before 0.7
        return ""
    elbo, iwae = metrics["heldout_elbo_mcse"], metrics["heldout_iwae_2000_mcse"]
    return f"; Monte Carlo standard error of the ELBO {elbo:.3f}, of the last IWAE {iwae:.3f}"


def _latent(metrics: Mapping[str, Any]) -> str:
    if metrics.get("kl_per_dimension") == []:
        return "No latent state of cells."
    used = metrics["active_units"]
    return f"KL {metrics['kl']:.2f} nats per cell, {used} latent dimensions in use."


def _amortisation(metrics: Mapping[str, Any]) -> str:
    if "amortisation_gap" not in metrics:
        return ""
    return (
        f"\nAmortisation gap: {metrics['refinement_steps']} steps of refinement per cell raise "
        f"the ELBO by {metrics['amortisation_gap']:.2f} ± {metrics['amortisation_gap_se']:.2f} "
        "nats per cell."
    )


def _gap(row: Mapping[str, Any]) -> str:
    if "story_minus" not in row:
        return ""
    return f"{row['story_minus']:+.2f} ± {row['paired_se']:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0].replace("[", r"\[")
