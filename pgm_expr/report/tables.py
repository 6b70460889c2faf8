"""What pages consist of: text, tables and pictures, for the terminal and as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table as RichTable

from .pictures import png


@dataclass(frozen=True)
class Table:
    """A table that Rich prints and that HTML pages take as it is.

    Parameters
    ----------
    title
        Stands above the table; may be empty.
    columns
        Names of the columns.
    rows
        Text of the cells, row by row.
    words
        Number of columns, from the left, that hold words; the others hold numbers.
    screen
        Number of rows that the terminal shows; all by default.
    failed
        Positions of rows that HTML highlights.

    Examples
    --------
    >>> from rich import print
    >>> genes = Table("Genes", ("gene", "mean"), [("CD3E", "0.39"), ("MS4A1", "0.02")])
    >>> print(genes)  # doctest: +NORMALIZE_WHITESPACE
    Genes
     gene  mean
     CD3E  0.39
     MS4A1 0.02
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    screen: int | None = None
    failed: Sequence[int] = ()

    def __rich__(self) -> RichTable:
        made = RichTable(title=escape(self.title) or None, title_justify="left", box=None)
        for number, name in enumerate(self.columns):
            made.add_column(escape(name), justify="left" if number < self.words else "right")
        for row in self.rows[: self.screen]:
            made.add_row(*map(escape, row))
        return made

    def __html__(self) -> str:
        title = Markup("<caption>{}</caption>").format(self.title) if self.title else ""
        head = Markup("<tr>{}</tr>").format(self._row("th", self.columns))
        rows = (
            Markup("<tr{}>{}</tr>\n").format(
                Markup(' class="failed"') if number in self.failed else "", self._row("td", row)
            )
            for number, row in enumerate(self.rows)
        )
        return Markup("<table>{}\n{}\n{}</table>").format(title, head, Markup().join(rows))

    def _row(self, tag: str, cells: Sequence[str]) -> Markup:
        kinds = (' class="words"' if number < self.words else "" for number in range(len(cells)))
        pairs = zip(cells, kinds, strict=True)
        return Markup().join(
            Markup(f"<{tag}{kind}>{{}}</{tag}>").format(cell) for cell, kind in pairs
        )


def image(picture: Figure | bytes, alt: str) -> Markup:
    """A figure, or a PNG file, as an `img` element that holds it."""
    file = png(picture) if isinstance(picture, Figure) else picture
    uri = f"data:image/png;base64,{base64.b64encode(file).decode()}"
    return Markup('<img alt="{}" src="{}">').format(alt, uri)


def markup(*parts: str | Table) -> Markup:
    """HTML of texts, each a paragraph, of tables and of images.

    Examples
    --------
    >>> markup("5 genes < 0.1", Markup("<hr>"))
    Markup('<p>5 genes &lt; 0.1</p>\\n<hr>')
    """
    return Markup("\n").join(
        part if hasattr(part, "__html__") else Markup("<p>{}</p>").format(part) for part in parts
    )
