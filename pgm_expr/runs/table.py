"""The data of a run: AnnData in, encoded cells and their split out, with what to record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data import Cells, Columns, Encoding, Split, align, choose_genes, content_hash, gene_names, grouped_split, labelled, load_dataset, membership, random_split, take_counts, take_log_values

if TYPE_CHECKING:
    from anndata import AnnData

TAKE = {"counts": take_counts, "values": take_log_values}
FLAVOR = {"counts": "seurat_v3", "values": "seurat"}  # scanpy's rankings of variable genes
EXAMPLES = 1000  # training cells that parts start from, evenly spaced in the table
FEW_LABELS = 0.5  # of the cells outside the test set: below, no label is spared for validation


@dataclass(frozen=True)
class Table:
    """Encoded cells with their split; `source` says where they came from, as plain JSON, and
    `gene_sets` names the modelled genes of each set."""

    cells: Cells
    split: Split
    encoding: Encoding
    source: dict[str, Any]
    gene_sets: dict[str, list[str]] = field(default_factory=dict)

    @property
    def dims(self) -> dict[str, int]:
        """Sizes by constructor argument: `genes`, and what the encoding adds."""
        return {"genes": len(self.cells.genes)} | self.encoding.dims()

    def notes(self) -> dict[str, Any]:
        """What a run records of its data."""
        sizes = {name: len(getattr(self.split, name)) for name in ("train", "validation", "test")}
        return {
            "source": self.source,
            "cells": sizes,
            "encoding": self.encoding.to_json(),
            "genes": self.cells.genes.tolist(),
            "gene_sets": self.gene_sets,
        }

    def from_data(self) -> dict[str, Tensor]:
        """What training cells fill of constructors beyond sizes, see `zoo.FROM_DATA`."""
        counts = self.cells.counts[self.split.train]
        some = np.linspace(0, counts.shape[0] - 1, EXAMPLES).astype(int)
        sums = counts.sum(0) + 0.5  # positive for unseen genes too
        log_library = self.cells.rows(self.split.train)["library"].double().log()
        return {
            "average": torch.as_tensor(sums / sums.sum(), dtype=torch.float32),
            "mean": torch.as_tensor(counts.mean(0), dtype=torch.float32),
            "examples": torch.from_numpy(counts[some].toarray()),
            "log_library": torch.stack([log_library.mean(), log_library.std()]).float(),
        }

    @property
    def labels(self) -> np.ndarray | None:
        """The label of each cell as text, None where there are none."""
        if "label" not in self.cells.columns:
            return None
        return np.append(self.encoding.labels, "unlabelled")[self.cells.columns["label"]]


def prepare(
    data: AnnData | str | Path,
    columns: Columns,
    *,
    layer: str | None = None,
    takes: str = "counts",
    split_key: str | None = None,
    split_seed: int = 0,
    min_cells: int = 0,
    n_top_genes: int | None = None,
    gene_sets: Mapping[str, Sequence[str]] | str | Path | None = None,
) -> Table:
    """Read, check, split, choose genes and encode; raises ValueError for what cannot be used.

    `takes` is what the story is about: raw "counts", or "values" on a log scale.
    """
    adata, name = _resolve(data)
    counts = TAKE[takes](adata, layer)
    split = _split(adata, split_key, split_seed)
    few_labels = split_key is None and _few_labels(adata, columns, split)
    if few_labels:
        split = _labels_to_training(adata, columns, split)
    encoding = Encoding.learn(adata.obs, columns, split.train)
    genes = choose_genes(
        counts,
        split.development,
        min_cells=min_cells,
        n_top_genes=n_top_genes,
        flavor=FLAVOR[takes],
    )
    names = np.asarray(gene_names(adata, layer), dtype=str)[genes]
    cells = Cells(counts[:, genes], encoding.encode(adata.obs), names, adata.obs_names)
    source = {
        "data": name,
        "layer": layer,
        "takes": takes,
        "split_key": split_key,
        "split_seed": split_seed,
        "few_labels": few_labels,
        "hash": content_hash(cells.counts, cells.genes, cells.names),
    }
    return Table(cells, split, encoding, source, _sets(gene_sets, cells.genes))


def reread(notes: Mapping[str, Any], data: AnnData | str | Path | None = None) -> Table:
    """The table of an earlier fit, from its notes; ValueError where the data are not the same."""
    source = notes["source"]
    if data is None and source["data"] is None:
        raise ValueError("the run was fitted on an AnnData in memory. Pass it again as DATA.")
    adata, _ = _resolve(source["data"] if data is None else data)
    encoding = Encoding.from_json(notes["encoding"])
    cells = query(adata, notes["genes"], encoding, source["layer"], source.get("takes", "counts"))
    if content_hash(cells.counts, cells.genes, cells.names) != source["hash"]:
        raise ValueError(
            f"{'these data' if data is not None else source['data']} are not the data of the fit: "
            "their hash differs. Pass the data of the fit, or fit again."
        )
    split = _split(adata, source["split_key"], source["split_seed"])
    if source.get("few_labels"):
        split = _labels_to_training(adata, encoding.columns, split)
    return Table(cells, split, encoding, source, notes.get("gene_sets", {}))


def query(
    data: AnnData | str | Path,
    genes: list[str],
    encoding: Encoding,
    layer: str | None,
    takes: str = "counts",
) -> Cells:
    """Cells of any data in the genes and levels of a fit."""
    adata, _ = _resolve(data)
    counts = align(adata, genes, layer, TAKE[takes])
    return Cells(counts, encoding.encode(adata.obs), genes, adata.obs_names)


def _resolve(data: AnnData | str | Path) -> tuple[AnnData, str | None]:
    if isinstance(data, (str, Path)):
        path = Path(data)
        return load_dataset(data), str(path.resolve()) if path.exists() else str(data)
    return data, None


def _split(adata: AnnData, key: str | None, seed: int) -> Split:
    if key is None:
        return random_split(adata.n_obs, seed)
    if key not in adata.obs:
        raise ValueError(f"split_key '{key}' is not a column of obs: {', '.join(adata.obs)}.")
    return grouped_split(adata.obs[key], seed)


def _few_labels(adata: AnnData, columns: Columns, split: Split) -> bool:
    """Whether labels are so few that training should have all of them."""
    if columns.labels_key is None:
        return False
    known = labelled(adata.obs, columns)
    few = known[split.development].mean() < FEW_LABELS
    return bool(few and not known[split.validation].all())


def _labels_to_training(adata: AnnData, columns: Columns, split: Split) -> Split:
    """The labelled validation cells go to training: validation looks at no label."""
    known = labelled(adata.obs, columns)[split.validation]
    train = np.concatenate([split.train, split.validation[known]])
    return replace(split, train=train, validation=split.validation[~known])


def _sets(
    given: Mapping[str, Sequence[str]] | str | Path | None, genes: np.ndarray
) -> dict[str, list[str]]:
    """The modelled genes of each gene set that has enough of them."""
    if given is None:
        return {}
    names, belongs = membership(given, genes.tolist())
    return {name: genes[row > 0].tolist() for name, row in zip(names, belongs, strict=True)}
