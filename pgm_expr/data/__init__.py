"""AnnData in, minibatches out: the only layer that knows AnnData."""

from pgm_expr.data.batches import Cells, Minibatch, content_hash, epoch, sweep
from pgm_expr.data.counts import (
    gene_names,
    kind_of,
    take_counts,
    take_log_values,
    take_values,
)
from pgm_expr.data.datasets import dataset_names, load_dataset
from pgm_expr.data.describe import Description, describe
from pgm_expr.data.fields import (
    ARGUMENTS,
    FIELDS,
    Batch,
    CategoricalCovariate,
    ContinuousCovariate,
    Donor,
    Encoding,
    Field,
    Label,
    Perturbation,
    Target,
    learn_fields,
)
from pgm_expr.data.gene_sets import membership, read_gmt
from pgm_expr.data.genes import align, choose_genes, detected
from pgm_expr.data.read import read
from pgm_expr.data.split import Split, grouped_split, random_split

__all__ = [
    "ARGUMENTS",
    "FIELDS",
    "Batch",
    "CategoricalCovariate",
    "Cells",
    "ContinuousCovariate",
    "Description",
    "Donor",
    "Encoding",
    "Field",
    "Label",
    "Minibatch",
    "Perturbation",
    "Split",
    "Target",
    "align",
    "choose_genes",
    "content_hash",
    "dataset_names",
    "describe",
    "detected",
    "epoch",
    "gene_names",
    "grouped_split",
    "kind_of",
    "learn_fields",
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
