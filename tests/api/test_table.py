"""The table of a run: what is read, split and recorded, and that it is found again."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pgm_expr import simulate
from pgm_expr.data import Encoding
from pgm_expr.runs.table import prepare, query, reread

COLUMNS = dict(labels_key="type", batch_key="batch", unlabeled_category="type1")


@pytest.fixture
def adata():
    truth = simulate.simulate(60, 20, seed=0, types=3, batches=2, median_library=300.0)
    return truth.to_anndata()


def noted(table):
    """The notes of a run, as they come back from its folder."""
    return json.loads(json.dumps(table.notes()))


def few_labels(adata, known):
    """The same cells, only those of the mask labelled."""
    told = adata.copy()
    told.obs["type"] = told.obs["type"].astype(object).where(known)
    return told


def put(adata, where, value):
    """Change counts in place."""
    dense = adata.X.toarray()
    dense[where] = value
    adata.X = sp.csr_matrix(dense)


def test_sizes_and_split(adata):
    table = prepare(adata, COLUMNS, split_seed=4)
    assert table.dims == {"genes": 20, "labels": 2, "batches": 2}
    order = np.random.default_rng(4).permutation(60)
    assert table.split.test.tolist() == order[:12].tolist()
    assert table.notes()["cells"] == {"train": 44, "validation": 4, "test": 12}
    assert (
        table.labels.tolist()
        == adata.obs["type"].astype(str).replace("type1", "unlabelled").tolist()
    )
    assert prepare(adata, dict()).labels is None


def test_the_average_cell_is_of_the_training_cells(adata):
    table = prepare(adata, COLUMNS)
    sums = adata.X.toarray().astype(np.float64)[table.split.train].sum(0) + 0.5
    assert np.allclose(table.from_data()["average"], sums / sums.sum(), rtol=1e-6)
    put(adata, (table.split.train, 0), 0)
    average = prepare(adata, COLUMNS).from_data()["average"]
    assert (average > 0).all() and average.sum() == pytest.approx(1)


def test_genes_are_chosen_before_the_library(adata):
    """The library is the sum over the genes that stay."""
    table = prepare(adata, COLUMNS, min_cells=30)
    rest = np.concatenate([table.split.train, table.split.validation])
    kept = (adata.X.toarray()[rest] > 0).sum(0) >= 30
    assert 0 < kept.sum() < 20 and table.dims["genes"] == kept.sum()
    assert table.cells.genes.tolist() == adata.var_names[kept].tolist()
    assert np.allclose(table.cells.library.squeeze(), adata.X.toarray()[:, kept].sum(1))


@pytest.mark.parametrize("given", [False, True], ids=["from the path", "passed again"])
def test_the_same_data_give_the_same_table(adata, tmp_path, given):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    table = prepare(tmp_path / "cells.h5ad", COLUMNS, split_seed=2, min_cells=30)
    again = reread(noted(table), adata if given else None)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(table.split, part), getattr(again.split, part))
    rows = [one.cells.rows(np.arange(60)) for one in (table, again)]
    assert rows[0].keys() == rows[1].keys() >= {"x", "library", "label", "batch", "index"}
    assert all(torch.equal(rows[0][key], rows[1][key]) for key in rows[0])


def change_count(adata):
    put(adata, (2, 3), adata.X[2, 3] + 1)


def swap_cells(adata):
    adata.obs_names = [*adata.obs_names[1::-1], *adata.obs_names[2:]]


@pytest.mark.parametrize("change", [change_count, swap_cells])
def test_changed_data_are_refused(adata, tmp_path, change):
    table = prepare(adata, COLUMNS)
    reread(noted(table), adata)
    change(adata)
    with pytest.raises(ValueError, match="hash differs"):
        reread(noted(table), adata)


def test_a_gene_that_was_not_modelled_may_change(adata):
    table = prepare(adata, COLUMNS, min_cells=30)
    (left_out, *_) = set(adata.var_names) - set(table.cells.genes)
    put(adata, np.s_[:, adata.var_names.get_loc(left_out)], 9)
    assert reread(noted(table), adata).source == table.source


def test_data_in_memory_are_passed_again(adata):
    with pytest.raises(ValueError, match="AnnData in memory"):
        reread(noted(prepare(adata, COLUMNS)))


def test_the_file_itself_is_recorded_from_anywhere(adata, tmp_path, monkeypatch):
    """A relative path is kept whole, so that another working directory finds it."""
    adata.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.chdir(tmp_path)
    table = prepare("cells.h5ad", COLUMNS)
    monkeypatch.chdir("/")
    assert reread(noted(table)).source == table.source


def test_query_follows_the_genes_of_the_fit(adata):
    encoding = Encoding.learn(adata.obs, COLUMNS, np.arange(60))
    genes = ["gene7", "gene2", "gene11"]
    cells = query(adata, genes, encoding, None)
    assert np.array_equal(cells.counts.toarray(), adata[:, genes].X.toarray())
    assert cells.genes.tolist() == genes and cells.columns.keys() == {"label", "batch"}


def test_an_unknown_split_key_is_named(adata):
    with pytest.raises(ValueError, match="split_key 'donor'.*type"):
        prepare(adata, COLUMNS | {"split_key": "donor"})


@pytest.mark.parametrize("given", [False, True], ids=["from the path", "passed again"])
def test_few_labels_all_train(adata, tmp_path, given):
    """Labelled validation cells move to training, and are found there again."""
    plain = prepare(adata, dict()).split
    known = np.arange(60) % 3 == 0
    known[plain.validation[:2]], known[plain.validation[2:]] = True, False
    told = few_labels(adata, known)
    told.write_h5ad(tmp_path / "cells.h5ad")
    table = prepare(tmp_path / "cells.h5ad", dict(labels_key="type"))
    assert table.split.validation.tolist() == plain.validation[2:].tolist()
    assert table.split.train.tolist() == [*plain.train, *plain.validation[:2]]
    assert table.split.test.tolist() == plain.test.tolist()
    again = reread(noted(table), told if given else None)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(table.split, part), getattr(again.split, part))


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_with_many_labels_validation_keeps_its_cells(adata, share):
    """As where most cells are labelled: without these, next to none would be left."""
    plain = prepare(adata, dict()).split
    known = np.arange(60) < share * 60
    table = prepare(few_labels(adata, known), dict(labels_key="type"))
    assert table.split.validation.tolist() == plain.validation.tolist()
    assert not table.source["few_labels"]


def test_whole_groups_stay_whole_with_few_labels(adata):
    adata.obs["donor"] = [f"d{n % 6}" for n in range(60)]
    plain = prepare(adata, dict(donor_key="donor")).split
    told = few_labels(adata, np.arange(60) % 3 == 0)
    table = prepare(told, dict(labels_key="type", donor_key="donor"))
    assert table.split.validation.tolist() == plain.validation.tolist()


def test_perturbations_and_a_target_are_columns_of_minibatches(adata):
    adata.obs["guide"] = ["ctrl", "a", "b", "a+b"] * 15
    adata.obs["growth"] = np.where(np.arange(60) % 2, np.nan, np.arange(60.0))
    columns = dict(perturbation_key="guide", control="ctrl", target_key="growth")
    table = prepare(adata, columns)
    assert table.dims == {"genes": 20, "perturbations": 2}
    batch = table.cells.rows(np.arange(4))
    assert batch["perturbation"].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert batch["target"].isnan().tolist() == [[False], [True], [False], [True]]
    assert reread(noted(table), adata).encoding == table.encoding


SETS = {
    "first": ["gene0", "gene1", "gene2", "elsewhere"],
    "other": ["gene5", "gene2", "gene9", "gene7"],
    "small": ["gene0", "gene1", "elsewhere"],
}


@pytest.mark.filterwarnings("ignore:1 of 3 gene sets have fewer")
def test_gene_sets_hold_modelled_genes_in_memory_or_from_a_file(adata, tmp_path):
    """A set of two modelled genes is left out."""
    lines = ["\t".join([name, "about it", *genes]) for name, genes in SETS.items()]
    (tmp_path / "sets.gmt").write_text("\n".join(lines) + "\n")
    for given in (SETS, tmp_path / "sets.gmt", str(tmp_path / "sets.gmt")):
        table = prepare(adata, COLUMNS, gene_sets=given)
        assert {name: set(genes) for name, genes in table.gene_sets.items()} == {
            "first": {"gene0", "gene1", "gene2"},
            "other": {"gene5", "gene2", "gene9", "gene7"},
        }
        assert reread(noted(table), adata).gene_sets == table.gene_sets
    assert prepare(adata, COLUMNS).notes()["gene_sets"] == {}
