"""The data of a run: AnnData in, encoded cells and their split out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data import (
    Cells,
    Donor,
    Encoding,
    Label,
    Split,
    align,
    choose_genes,
    content_hash,
    gene_names,
    grouped_split,
    learn_fields,
    load_dataset,
    membership,
    random_split,
    take_counts,
    take_log_values,
)

if TYPE_CHECKING:
    from anndata import AnnData

TAKE = {"counts": take_counts, "values": take_log_values}
FLAVOR = {"counts": "seurat_v3", "values": "seurat"}  # scanpy's rankings of variable genes
EXAMPLES = 1000  # training cells that initialise parts, evenly spaced in the table
FEW_LABELS = 0.5  # share of labelled cells outside the test set, below which all of them train


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
        """What `story.json` records of the data."""
        sizes = {name: len(getattr(self.split, name)) for name in ("train", "validation", "test")}
        return {
            "source": self.source,
            "cells": sizes,
            "encoding": self.encoding.to_json(),
            "genes": self.cells.genes.tolist(),
            "gene_sets": self.gene_sets,
        }

    def from_data(self) -> dict[str, Tensor]:
        """Constructor arguments computed from the training cells, see `zoo.FROM_DATA`."""
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
    arguments: Mapping[str, object] | None = None,
    *,
    layer: str | None = None,
    takes: str = "counts",
    split_seed: int = 0,
    min_cells: int = 0,
    n_top_genes: int | None = None,
    gene_sets: Mapping[str, Sequence[str]] | str | Path | None = None,
) -> Table:
    """Read, check, split, choose genes and encode; raises ValueError for unusable data.

    `arguments` name columns of obs (`data.ARGUMENTS`); donors stay whole in the split. `takes` is
    what the story models: raw "counts", or "values" on a log scale.
    """
    adata, name = _resolve(data)
    arguments = arguments or {}
    counts = TAKE[takes](adata, layer)
    donor = next(iter(learn_fields(Donor, adata.obs, arguments, np.arange(adata.n_obs))), None)
    groups = donor.groups(adata.obs) if donor else None
    split = _split(adata, groups, split_seed)
    label = _label(arguments)
    few_labels = donor is None and label is not None and _few_labels(adata, label, split)
    if label and few_labels:
        split = _labels_to_training(adata, label, split)
    encoding = Encoding.learn(adata.obs, arguments, split.train)
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
    split = _split(adata, _groups(adata, encoding, source), source["split_seed"])
    label = encoding.get(Label)
    if label and source.get("few_labels"):
        split = _labels_to_training(adata, label, split)
    return Table(cells, split, encoding, source, notes.get("gene_sets", {}))


def query(
    data: AnnData | str | Path,
    genes: list[str],
    encoding: Encoding,
    layer: str | None,
    takes: str = "counts",
) -> Cells:
    """Cells of any data, encoded with the genes and levels of a fit."""
    adata, _ = _resolve(data)
    counts = align(adata, genes, layer, TAKE[takes])
    return Cells(counts, encoding.encode(adata.obs), genes, adata.obs_names)


def _resolve(data: AnnData | str | Path) -> tuple[AnnData, str | None]:
    if isinstance(data, (str, Path)):
        path = Path(data)
        return load_dataset(data), str(path.resolve()) if path.exists() else str(data)
    return data, None


def _split(adata: AnnData, groups: np.ndarray | None, seed: int) -> Split:
    return random_split(adata.n_obs, seed) if groups is None else grouped_split(groups, seed)


def _groups(adata: AnnData, encoding: Encoding, source: Mapping[str, Any]) -> np.ndarray | None:
    """The groups of the split of an earlier fit; format 0 has their column in `source`."""
    donor, key = encoding.get(Donor), source.get("split_key")
    if donor is None:
        return None if key is None else adata.obs[key].to_numpy()
    return donor.groups(adata.obs)


def _label(arguments: Mapping[str, Any]) -> Label | None:
    """The label before its levels are learned: the split comes first."""
    key = arguments.get("labels_key")
    return key and Label(key, (), arguments.get("unlabeled_category"))


def _few_labels(adata: AnnData, label: Label, split: Split) -> bool:
    """Whether labels are so few that all of them should train."""
    known = label.labelled(adata.obs)
    few = known[split.development].mean() < FEW_LABELS
    return bool(few and not known[split.validation].all())


def _labels_to_training(adata: AnnData, label: Label, split: Split) -> Split:
    """Move labelled validation cells to the training set: validation uses no labels."""
    known = label.labelled(adata.obs)[split.validation]
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
