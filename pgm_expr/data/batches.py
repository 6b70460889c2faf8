"""Cells in memory and their minibatches: plain dicts of tensors, dense on the device if they fit.

A minibatch holds `x` (B, G) float32 counts, `library` (B, 1) float32, `index` (B,) int64 (the
position in the table of cells) and the columns `label`, `batch`, `condition` that were encoded.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from pgm_expr.data.counts import refuse_empty
from pgm_expr.data.matrix import canonical

BUDGET = 2**30  # bytes of the dense matrix up to which it is kept dense
Batch = dict[str, Tensor]
Index = np.ndarray | Tensor | Sequence[int]


class Cells:
    """A table of N cells: counts (N, G), the encoded columns, names of genes and cells.

    Where the dense float32 matrix takes at most `budget` bytes it is kept dense as one tensor,
    with the other columns on the device of `to`, and `rows` is an index_select; otherwise rows
    are made dense from CSR batch by batch. Raises ValueError for cells without any count and for
    columns of another length.
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
        self._table |= {key: torch.as_tensor(value) for key, value in self.columns.items()}
        self._table["index"] = torch.arange(n)
        self.device = torch.device("cpu")  # where `rows` puts a minibatch unless told otherwise
        if 4 * n * g <= budget:
            self._table["x"] = torch.from_numpy(self.counts.toarray())

    def _check(self) -> None:
        n, g = self.counts.shape
        lengths = {key: len(value) for key, value in self.columns.items()}
        for key, length in {**lengths, "names": len(self.names)}.items():
            if length != n:
                raise ValueError(f"{key} must have one row a cell: got {length} for {n} cells.")
        if len(self.genes) != g:
            raise ValueError(f"genes must name each column: got {len(self.genes)} for {g} genes.")
        refuse_empty(self.counts, self.names, "the modelled genes", "Drop these cells.")

    def __len__(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    @property
    def library(self) -> Tensor:
        """(N, 1) float32: the sum over the modelled genes, where the table lies."""
        return self._table["library"]

    @property
    def is_dense(self) -> bool:
        """Whether the counts are kept as a dense tensor."""
        return "x" in self._table

    def to(self, device: torch.device | str) -> Cells:
        """The same cells with minibatches on `device`; the CSR counts are shared, not copied.

        A dense table moves there as a whole. Otherwise all of it stays on the CPU, where rows are
        picked without waiting for the device.
        """
        moved = copy.copy(self)
        moved.device = torch.device(device)
        if self.is_dense:
            moved._table = {key: value.to(device) for key, value in self._table.items()}
        return moved

    def rows(self, index: Index, device: torch.device | str | None = None) -> Batch:
        """The minibatch of these cells, in this order."""
        here = _positions(self, index)
        batch = {key: value.index_select(0, here) for key, value in self._table.items()}
        if not self.is_dense:
            batch["x"] = torch.from_numpy(self.counts[here.numpy()].toarray())
        device = self.device if device is None else device
        return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def _library(counts: sp.csr_array) -> np.ndarray:
    """(N, 1) float32, summed in float64: sums of bulk samples exceed what float32 adds exactly."""
    return (counts @ np.ones(counts.shape[1]))[:, None].astype(np.float32)


def epoch(cells: Cells, index: Index, size: int, order: torch.Generator | int) -> Iterator[Batch]:
    """Minibatches of one training epoch over the cells of `index`, shuffled, remainder dropped.

    The batch size is min(size, len(index)). `order` is a generator, which moves on, or a seed:
    the epoch is then a function of the seed alone. Raises ValueError for no cells or size < 1.
    """
    here = _some(cells, index, size)
    size = min(size, len(here))
    if not isinstance(order, torch.Generator):
        order = torch.Generator().manual_seed(order)
    shuffle = torch.randperm(len(here), generator=order, device=order.device).to(here.device)
    whole = here[shuffle][: len(here) // size * size]
    return (cells.rows(part) for part in whole.split(size))


def sweep(cells: Cells, index: Index, size: int) -> Iterator[Batch]:
    """Minibatches over all cells of `index` in their order; the last one may be short."""
    return (cells.rows(part) for part in _some(cells, index, size).split(size))


def _positions(cells: Cells, index: Index) -> Tensor:
    """The index where the table lies; put there once an epoch, no batch waits for a transfer."""
    if getattr(index, "dtype", None) in (np.dtype(bool), torch.bool):
        raise ValueError("index must hold positions of cells: got a mask. Pass its nonzero().")
    return torch.as_tensor(index, dtype=torch.int64, device=cells.library.device)


def _some(cells: Cells, index: Index, size: int) -> Tensor:
    here = _positions(cells, index)
    if not len(here) or size < 1:
        raise ValueError(
            f"minibatches need at least one cell and a size of at least 1: got {len(here)} cells "
            f"and size {size}. Pass more of them."
        )
    return here


def content_hash(counts: sp.csr_array, genes: Sequence[str], names: Sequence[str]) -> str:
    """SHA-256 (hex) of counts, genes and cell names, in their order.

    The same data give the same hash whatever their index type, stored zeros or number type.
    """
    csr = canonical(sp.csr_array(counts))
    digest = hashlib.sha256()
    header = {"shape": [int(size) for size in csr.shape], "genes": list(map(str, genes))}
    header["names"] = list(map(str, names))
    digest.update(json.dumps(header).encode())
    for array, kind in ((csr.indptr, "<i8"), (csr.indices, "<i8"), (csr.data, "<f4")):
        digest.update(array.astype(kind).data)
    return digest.hexdigest()
