"""Cells in memory and their minibatches: plain dicts of tensors, dense on the device if they fit.

A minibatch holds `x` (B, G) float32 counts, `library` (B, 1) float32, `index` (B,) int64 (the
position in the table of cells) and the entries that an `Encoding` made of columns of obs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pgm_expr.data.counts import refuse_empty
from pgm_expr.data.fields import FIELDS
from pgm_expr.data.matrix import canonical

BUDGET = 2**30  # bytes of the dense matrix up to which it is kept dense
Minibatch = dict[str, Tensor]
Index = np.ndarray | Tensor | Sequence[int]


class Cells:
    """A table of N cells: their counts, encoded columns of obs, and names.

    Parameters
    ----------
    counts
        Counts or log values of the modelled genes, (N, G).
    columns
        Other minibatch entries, (N, ...) each: what `Encoding.encode` returns.
    genes, names
        Names of genes and cells; their positions by default.
    budget
        Bytes up to which the dense float32 matrix is kept, on the device given to `to`. A larger
        matrix stays sparse on the CPU, and each minibatch is made dense.

    Raises
    ------
    ValueError
        For cells without any count, and for columns or names of another length.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from pgm_expr.data import Cells
    >>> cells = Cells(sp.csr_array([[0, 3], [1, 0], [2, 2]]), {"label": np.array([0, 1, 0])})
    >>> batch = cells.rows([2, 0])
    >>> batch["x"].tolist(), batch["library"].tolist(), batch["label"].tolist()
    ([[2.0, 2.0], [0.0, 3.0]], [[4.0], [3.0]], [0, 0])
    >>> cells.withheld().rows([2, 0])["label"].tolist()
    [-1, -1]
    """

    def __init__(
        self,
        counts: sp.csr_array,
        columns: Mapping[str, np.ndarray] | None = None,
        genes: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        budget: int = BUDGET,
    ) -> None:
        n, g = counts.shape
        self.counts = canonical(counts).astype(np.float32, copy=False)
        self.columns = dict(columns or {})
        self.genes = np.arange(g).astype(str) if genes is None else np.asarray(genes, dtype=str)
        self.names = np.arange(n).astype(str) if names is None else np.asarray(names, dtype=str)
        self._check()
        self._table = {"library": torch.from_numpy(_library(self.counts))}
        self._table |= {
            key: torch.as_tensor(np.require(value, requirements="W"))
            for key, value in self.columns.items()
        }
        self._table["index"] = torch.arange(n)
        self._withheld: dict[str, Tensor] = {}  # by entry, the missing value of a cell
        self.device = torch.device("cpu")  # where `rows` puts a minibatch by default
        if 4 * n * g <= budget:
            self._table["x"] = torch.from_numpy(self.counts.toarray())

    def _check(self) -> None:
        n, g = self.counts.shape
        lengths = {key: len(value) for key, value in self.columns.items()}
        for key, length in {**lengths, "names": len(self.names)}.items():
            if length != n:
                raise ValueError(f"{key} must have one row per cell: got {length} for {n} cells.")
        if len(self.genes) != g:
            raise ValueError(f"genes must name each column: got {len(self.genes)} for {g} genes.")
        refuse_empty(self.counts, self.names, "the modelled genes", "Drop these cells.")

    def __len__(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    @property
    def library(self) -> Tensor:
        """Sums over the modelled genes, (N, 1) float32, on the device of the table."""
        return self._table["library"]

    @property
    def is_dense(self) -> bool:
        """Whether the counts are kept as a dense tensor."""
        return "x" in self._table

    def to(self, device: torch.device | str) -> Cells:
        """The same cells with minibatches on a device; the sparse counts are shared.

        A dense table moves there as a whole. Otherwise all of it stays on the CPU, where rows are
        picked without waiting for the device.

        Parameters
        ----------
        device
            A torch device or its name.

        Returns
        -------
        A new table; this one is unchanged.
        """
        moved = copy.copy(self)
        moved.device = torch.device(device)
        if self.is_dense:
            moved._table = {key: value.to(device) for key, value in self._table.items()}
            moved._withheld = {key: row.to(device) for key, row in self._withheld.items()}
        return moved

    def withheld(self, but: Collection[str] = ()) -> Cells:
        """The same cells without labels and targets, as used for evaluation and embedding.

        Minibatches hold an entry for each predicted field of `FIELDS`, whether or not the data
        have such a column: `label` is -1 (N,) int64, `target` NaN (N, 1) float32. The counts are
        shared.

        Parameters
        ----------
        but
            Entries to keep, such as `label` for a probe that predicts it from latent states.

        Returns
        -------
        A new table; this one is unchanged.
        """
        predicted = (field for field in FIELDS if field.entry not in but)
        missing = {field.entry: field.missing for field in predicted if field.missing is not None}
        hidden = copy.copy(self)
        hidden.columns = self.columns | {
            entry: np.repeat(row[None], len(self), axis=0) for entry, row in missing.items()
        }
        hidden._withheld = {
            entry: torch.tensor(row, device=self.library.device) for entry, row in missing.items()
        }
        return hidden

    def rows(self, index: Index, device: torch.device | str | None = None) -> Minibatch:
        """The minibatch of some cells.

        Parameters
        ----------
        index
            Positions of B cells, in the order of the minibatch; not a mask.
        device
            Device of the minibatch, that of `to` by default.

        Returns
        -------
        Tensors by entry: `library` (B, 1), the encoded columns, `index` (B,) and `x` (B, G).

        Raises
        ------
        ValueError
            For a mask.
        """
        here = _positions(self, index)
        batch = {key: value.index_select(0, here) for key, value in self._table.items()}
        if not self.is_dense:
            batch["x"] = torch.from_numpy(self.counts[here.numpy()].toarray())
        for key, row in self._withheld.items():
            batch[key] = row.expand(len(here), *row.shape).clone()
        device = self.device if device is None else device
        return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def _library(counts: sp.csr_array) -> np.ndarray:
    """(N, 1) float32, summed in float64: sums of bulk samples exceed what float32 adds exactly."""
    return (counts @ np.ones(counts.shape[1]))[:, None].astype(np.float32)


def epoch(
    cells: Cells, index: Index, size: int, order: torch.Generator | int
) -> Iterator[Minibatch]:
    """Minibatches of one training epoch: shuffled, without the last one if it is short.

    Parameters
    ----------
    cells
        The table.
    index
        Positions of the training cells.
    size
        Cells per minibatch; at most all of `index`.
    order
        A generator, which is advanced, or a seed that fixes the order.

    Returns
    -------
    Minibatches of `size` cells.

    Raises
    ------
    ValueError
        For no cells or a size below 1.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from pgm_expr.data import Cells, epoch
    >>> cells = Cells(sp.csr_array(np.eye(5)))
    >>> [len(batch["x"]) for batch in epoch(cells, range(5), 2, order=0)]
    [2, 2]
    """
    here = _some(cells, index, size)
    size = min(size, len(here))
    if not isinstance(order, torch.Generator):
        order = torch.Generator().manual_seed(order)
    shuffle = torch.randperm(len(here), generator=order, device=order.device).to(here.device)
    whole = here[shuffle][: len(here) // size * size]
    return (cells.rows(part) for part in whole.split(size))


def sweep(cells: Cells, index: Index, size: int) -> Iterator[Minibatch]:
    """Minibatches over all cells of an index, in its order; the last one may be short.

    Parameters
    ----------
    cells
        The table.
    index
        Positions of the cells.
    size
        Cells per minibatch.

    Returns
    -------
    Minibatches that hold each cell of `index` once.

    Raises
    ------
    ValueError
        For no cells or a size below 1.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from pgm_expr.data import Cells, sweep
    >>> cells = Cells(sp.csr_array(np.eye(5)))
    >>> [batch["index"].tolist() for batch in sweep(cells, [4, 1, 0], 2)]
    [[4, 1], [0]]
    """
    return (cells.rows(part) for part in _some(cells, index, size).split(size))


def _positions(cells: Cells, index: Index) -> Tensor:
    """The index on the table's device, moved once per epoch so that no batch waits for it."""
    if getattr(index, "dtype", None) in (np.dtype(bool), torch.bool):
        raise ValueError("index must hold positions of cells: got a mask. Pass its nonzero().")
    return torch.as_tensor(index, dtype=torch.int64, device=cells.library.device)


def _some(cells: Cells, index: Index, size: int) -> Tensor:
    here = _positions(cells, index)
    if not len(here) or size < 1:
        raise ValueError(
            f"minibatches need at least one cell and a size of at least 1: got {len(here)} cells "
            f"and size {size}. Pass more cells or a larger size."
        )
    return here


def content_hash(
    counts: sp.csr_array, genes: Sequence[str] | np.ndarray, names: Sequence[str] | np.ndarray
) -> str:
    """SHA-256 of counts and of the names of genes and cells.

    Parameters
    ----------
    counts
        Counts, (N, G). Their dtype, the dtype of indices and stored zeros do not matter.
    genes, names
        Names of genes and cells, in the order of the counts.

    Returns
    -------
    64 hexadecimal digits.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from pgm_expr.data import content_hash
    >>> content_hash(sp.csr_array([[0, 3]]), ["CD3E", "NKG7"], ["cell"])[:8]
    'a1b0a391'
    """
    csr = canonical(sp.csr_array(counts))
    digest = hashlib.sha256()
    header = {"shape": [int(size) for size in csr.shape], "genes": list(map(str, genes))}
    header["names"] = list(map(str, names))
    digest.update(json.dumps(header).encode())
    for array, kind in ((csr.indptr, "<i8"), (csr.indices, "<i8"), (csr.data, "<f4")):
        digest.update(array.astype(kind).data)
    return digest.hexdigest()
