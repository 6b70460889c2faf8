"""AnnData in, minibatches out: the only layer that knows AnnData."""

from pgm_expr.data.batches import Batch, Cells, content_hash, epoch, sweep
from pgm_expr.data.changes import change
from pgm_expr.data.counts import (
    Description,
    describe,
    gene_names,
    kind_of,
    take_counts,
    take_log_values,
    take_values,
)
from pgm_expr.data.datasets import dataset_names, load_dataset
from pgm_expr.data.encode import Columns, Encoding, labelled
from pgm_expr.data.gene_sets import membership, read_gmt
from pgm_expr.data.genes import align, choose_genes, detected
from pgm_expr.data.read import read
from pgm_expr.data.split import Split, grouped_split, random_split

__all__ = [
    "Batch",
    "Cells",
    "Columns",
    "Description",
    "Encoding",
    "Split",
    "align",
    "change",
    "choose_genes",
    "content_hash",
    "dataset_names",
    "describe",
    "detected",
    "epoch",
    "gene_names",
    "grouped_split",
    "kind_of",
    "labelled",
    "load_dataset",
    "membership",
    "random_split",
    "read",
    "read_gmt",
    "sweep",
    "take_counts",
    "take_log_values",
    "take_values",
]
