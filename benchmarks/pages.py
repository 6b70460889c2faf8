"""Write docs/calibration.md: a table for each file in benchmarks/results.

    python benchmarks/pages.py

A file of results is JSON: `benchmark`, the name of the script that wrote it, `command`, `version`,
`columns` (headings by key, in order) and `rows`. A section opens with the docstring of its script.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "calibration.md"
OPENING = """# Measured figures

This page is made by `python benchmarks/pages.py` from `benchmarks/results/`. Each table states the
command that measured it and the version of the package.
"""


def page(results: Path = HERE / "results") -> str:
    """The page of all results in a folder."""
    files = sorted(results.glob("*.json"))
    return "\n".join([OPENING, *(section(json.loads(file.read_text())) for file in files)])


def section(found: Mapping[str, Any]) -> str:
    """One benchmark: its docstring without the usage, command, version and table."""
    script = HERE / f"{found['benchmark']}.py"
    first, *text = ast.get_docstring(ast.parse(script.read_text())).split("\n\n")
    prose = "\n\n".join(part for part in text if not part.lstrip().startswith("python "))
    source = f"`{found['command']}`, version {found['version']}:"
    return f"## {first}\n\n{prose}\n\n{source}\n\n{table(found['columns'], found['rows'])}\n"


def table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table in Markdown; numbers of a column have equally many decimals."""
    rows = [[row.get(key, "") for key in columns] for row in rows]
    decimals = [max(map(_decimals, values)) for values in zip(*rows, strict=True)]
    written = [map(_written, row, decimals) for row in rows]
    lines = [[*columns.values()], ["---"] * len(columns), *written]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _written(value: object, decimals: int) -> str:
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def _decimals(value: object) -> int:
    return len(str(value).partition(".")[2]) if isinstance(value, float) else 0


if __name__ == "__main__":
    PAGE.write_text(page())
