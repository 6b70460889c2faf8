"""Gene sets: a GMT file or a dict as a membership matrix of sets and modelled genes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pgm_expr.data.messages import listing, near, one_line, refuse_absent

MINIMUM = 3  # modelled genes that a set must have to be kept
GMT = "A line of a GMT file holds a name, a description and genes, apart by tabs."

Sets = Mapping[str, Sequence[str]]


def read_gmt(path: str | Path) -> dict[str, list[str]]:
    """Read the gene sets of a GMT file.

    Parameters
    ----------
    path
        Text file; each line holds the name of a set, a description and genes, apart by tabs.
        Blank lines are skipped.

    Returns
    -------
    The genes of each set, in the order of the file, each gene once.

    Raises
    ------
    FileNotFoundError
        For a path that does not exist.
    ValueError
        For a set without genes or named twice, a file without sets, and a file that is not
        text; it names file and line.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from pgm_expr.data import read_gmt
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "sets.gmt")
    ...     _ = path.write_text("interferon\\tresponse to IFN\\tISG15\\tIFI6\\tMX1\\n")
    ...     read_gmt(path)
    {'interferon': ['ISG15', 'IFI6', 'MX1']}
    """
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(Path(path)), 1):
        if not line.strip():
            continue
        name, _, *genes = [entry.strip() for entry in line.split("\t")] + [""]
        genes = [gene for gene in dict.fromkeys(genes) if gene]
        if not name or not genes:
            raise ValueError(f"{path}, line {number}: {_columns(line, name)}. {GMT}")
        if name in sets:
            raise ValueError(
                f"{path}, line {number}: the gene set {name!r} stands there a second time. "
                "Rename or drop one."
            )
        sets[name] = genes
    if not sets:
        raise ValueError(f"{path} holds no gene set: it is empty. {GMT}")
    return sets


def membership(
    sets: Sets | str | Path, genes: Sequence[str], minimum: int = MINIMUM
) -> tuple[list[str], np.ndarray]:
    """Membership of the modelled genes in gene sets.

    Parameters
    ----------
    sets
        The genes of each set by its name, or the path of a GMT file.
    genes
        Names of the G modelled genes. Case matters.
    minimum
        Sets with fewer modelled genes are left out, with a UserWarning that counts them.

    Returns
    -------
    Names of the S sets that remain, and their genes, (S, G) float32 of zeros and ones.

    Raises
    ------
    ValueError
        Where no gene or no set remains, and for a dict that does not hold lists of names.

    Examples
    --------
    >>> from pgm_expr.data import membership
    >>> genes = ["CD3E", "ISG15", "MX1", "IFI6"]
    >>> names, belongs = membership({"interferon": ["ISG15", "IFI6", "MX1"]}, genes)
    >>> names, belongs.tolist()
    (['interferon'], [[0.0, 1.0, 1.0, 1.0]])
    """
    sets = sets if isinstance(sets, Mapping) else read_gmt(sets)
    _check(sets)
    column = {gene: position for position, gene in enumerate(genes)}
    rows = np.zeros((len(sets), len(genes)), np.float32)
    for row, of_set in zip(rows, sets.values(), strict=True):
        row[[column[gene] for gene in of_set if gene in column]] = 1
    if not rows.any():
        raise ValueError(_nothing_known(sets, genes))
    sizes = rows.sum(1)
    kept = sizes >= minimum
    if not kept.any():
        raise ValueError(
            f"no gene set has {minimum} of the {len(genes)} modelled genes: the largest of "
            f"{len(sets)} has {sizes.max():.0f}. Model more genes, or pass other sets."
        )
    dropped = [name for name, size in zip(sets, sizes, strict=True) if size < minimum]
    if dropped:
        warnings.warn(
            f"{len(dropped)} of {len(sets)} gene sets have fewer than {minimum} modelled genes "
            f"and are left out: {listing(dropped, 5)}.",
            stacklevel=2,
        )
    return [name for name, keep in zip(sets, kept, strict=True) if keep], rows[kept]


def _lines(path: Path) -> list[str]:
    refuse_absent(path, "the gene sets")
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line} is not text: {one_line(error)}. {GMT}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {one_line(error)}. {GMT}") from error


def _columns(line: str, name: str) -> str:
    columns = len(line.split("\t"))
    if columns < 3:
        return f"there must be at least 3 columns, and {columns} {'is' if columns == 1 else 'are'}"
    return f"the gene set {name!r} has no gene" if name else "the gene set has no name"


def _check(sets: Sets) -> None:
    """ValueError for a dict that does not hold lists of names."""
    if not sets:
        raise ValueError("gene_sets is empty. Pass the genes of at least one set.")
    for name, genes in sets.items():
        listed = isinstance(genes, Iterable) and not isinstance(genes, str)
        entries = [name, *genes] if listed else [name, None]
        if not all(isinstance(entry, str) for entry in entries):
            raise ValueError(
                f"the gene set {name!r} must be a list of gene names: got {genes!r:.60}. "
                "Pass a dict such as {'interferon': ['ISG15', 'IFI6', 'MX1']}."
            )


def _nothing_known(sets: Sets, genes: Sequence[str]) -> str:
    """No gene of the sets is modelled; which one was probably meant."""
    named = [gene for of_set in sets.values() for gene in of_set]
    folded = {gene.upper() for gene in genes}
    first = next((gene for gene in named if gene.upper() in folded), named[0] if named else "")
    return (
        f"none of the {len(set(named))} genes of the gene sets is among the {len(genes)} modelled "
        f"ones, not {first!r} for one.{near(first, genes)} Rename one of the two."
    )
