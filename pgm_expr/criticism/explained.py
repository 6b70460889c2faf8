"""How much of the variance of latent states do labels, batches and covariates explain?"""

from __future__ import annotations

from typing import Any

from .. import evaluation
from ..report import Table, markup
from . import chance
from .held_out import HeldOut
from .metadata import metadata
from .section import Section


def explained(on: HeldOut) -> dict[str, Any]:
    """Shares of the variance of held-out states: each column alone, beyond others, together."""
    columns = {name: held_out for name, (_, held_out) in metadata(on).items()}
    rows: list[dict[str, Any]] = []
    z = on.states.held_out
    for name, column in columns.items():
        others = [other for key, other in columns.items() if key != name]
        alone = chance.tried(evaluation.explained, z, [column])
        beyond = chance.tried(evaluation.explained, z, [column], given=others)
        rows.append({"what": name, "alone": alone, "beyond": beyond})
    if all("why" in row["alone"] for row in rows):
        raise ValueError(rows[0]["alone"]["why"] if rows else chance.NO_COLUMN)
    together = chance.tried(evaluation.explained, z, [*columns.values()])
    return {"rows": rows, "together": together}


def page(found: dict[str, Any]) -> list[str | Table]:
    """One row a column, then all columns together."""
    alone = [{"what": row["what"], **row["alone"]} for row in found["rows"]]
    alone.append({"what": "together", **found["together"]})
    beyond = [chance.cells(row["beyond"]) for row in found["rows"]] + [("", "", "")]
    rows = [
        (row["what"], *chance.cells(row), *more) for row, more in zip(alone, beyond, strict=True)
    ]
    columns = ("column", "alone", "chance", "p", "beyond others", "chance", "p")
    table = Table("Share of the variance of held-out cells", columns, rows)
    return [table, *chance.reasons(alone)]


SECTION = Section(
    name="explained",
    question="How much of the variance of latent states does metadata explain?",
    measure=explained,
    judge="which columns should explain the states depends on the study",
    page=page,
    html=lambda found: markup(*page(found)),
)
