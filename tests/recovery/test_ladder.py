"""Slow: gene, pathway and program are found again where each is planted.

Differences of held-out bounds are paired over cells; "worse" is by two of their standard errors,
which chance alone reaches once in 44 times.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import pgm_expr
from pgm_expr.evaluation import iwae, standard_error
from pgm_expr.inference import latent_use
from pgm_expr.simulate import Scales, simulate

pytestmark = pytest.mark.slow

CELLS, PROGRAMS, SETS, SIZE, OTHERS = 1200, 3, 15, 8, 60
SHARE = 0.7  # of a pathway's variance that its program explains
GENES = SETS * SIZE + OTHERS  # the last are in no set
SURE = 2.0  # standard errors


def fit(adata, member, **options):
    sets = {f"set{s}": adata.var_names[row > 0].tolist() for s, row in enumerate(member)}
    options = {"latent": 5, "hidden": 64} | options
    return pgm_expr.fit(adata, "ladder", gene_sets=sets, progress=False, **options)


@pytest.fixture(scope="module")
def planted():
    """Fifteen sets of eight genes, five a program, and two factors of genes in no set."""
    rng = np.random.default_rng(0)
    scales = Scales(base=0.7, type=0.0)
    truth = simulate(
        CELLS, GENES, seed=0, types=1, latent=SETS + 2, median_library=2000.0, scales=scales
    )
    member = np.arange(GENES) // SIZE == np.arange(SETS)[:, None]  # (S, G)
    lift = np.sqrt(SHARE) * (np.arange(SETS) % PROGRAMS == np.arange(PROGRAMS)[:, None])  # (D, S)
    program = rng.normal(size=(CELLS, PROGRAMS))
    pathway = program @ lift + np.sqrt(1 - SHARE) * rng.normal(size=(CELLS, SETS))
    rest = 0.7 * rng.normal(size=(2, GENES)) * ~member.any(0)
    loadings = np.concatenate([rng.uniform(0.3, 0.9, member.shape) * member, rest])
    z = np.concatenate([pathway, rng.normal(size=(CELLS, 2))], 1)
    truth = replace(truth, z=z, loadings=loadings)
    adata = replace(truth, x=truth.draw(1)).to_anndata()
    return SimpleNamespace(
        adata=adata, member=member, lift=lift, program=program, pathway=pathway, loadings=loadings
    )


@pytest.fixture(scope="module")
def fitted(planted):
    return fit(planted.adata, planted.member)


def held_out(run):
    return run.table.cells.rows(run.table.split.test)


def log_p(run, draws=300):
    return iwae(run.model, run.guide, [held_out(run)], (draws,))[draws]


def errors(difference):
    """A mean difference in its own standard errors."""
    return (difference.mean() / standard_error(difference)).item()


def correlations(a, b):
    """Correlation of each column of `a` with that of `b`."""
    return np.array([np.corrcoef(*pair)[0, 1] for pair in zip(a.T, b.T, strict=True)])


def canonical(a, b):
    """Cosines between the spans of the columns of `a` and `b`, largest first."""
    bases = [np.linalg.qr(matrix)[0] for matrix in (a, b)]
    return np.linalg.svd(bases[0].T @ bases[1])[1]


def everywhere(run):
    """Posterior means of all cells by site; the unannotated pathways left out."""
    locs = latent_use(run.bound(), [run.table.cells.rows(np.arange(CELLS))]).locs
    return locs["z_program"].numpy(), locs["z_pathway"][:, :SETS].numpy()


def test_every_level_is_in_use(fitted):
    """More than half a nat a cell on each level, of held-out cells."""
    kls = latent_use(fitted.bound(), [held_out(fitted)]).kls
    assert all(kls[level].sum() > 0.5 for level in ("z_program", "z_pathway"))


def test_pathways_are_found_with_their_sign(planted, fitted):
    """Median r above .8; another two factors move the genes in no set."""
    _, activity = everywhere(fitted)
    found = correlations(activity, planted.pathway)
    assert (found > 0.7).all() and np.median(found) > 0.8


def test_programs_group_the_planted_pathways(planted, fitted):
    """The planted span of L lies in the one found, and so do the cells' programs."""
    found = fitted.model.programs.detach().numpy()[:, :SETS]
    assert canonical(found.T, planted.lift.T)[PROGRAMS - 1] > 0.9
    states, _ = everywhere(fitted)
    centred = [matrix - matrix.mean(0) for matrix in (states, planted.program)]
    assert canonical(*centred)[PROGRAMS - 1] > 0.7
    alike = np.corrcoef((found.T @ found)[np.triu_indices(SETS, 1)], _together(planted))[0, 1]
    assert alike > 0.9


def _together(planted):
    """Which pairs of pathways share a program."""
    return (planted.lift.T @ planted.lift)[np.triu_indices(SETS, 1)]


def test_loadings_are_found(planted, fitted):
    """r over the genes of sets above .9; sizes within a quarter."""
    found = fitted.model.loadings.detach().numpy()[:SETS][planted.member]
    truth = planted.loadings[:SETS][planted.member]
    assert np.corrcoef(found, truth)[0, 1] > 0.9
    assert found.mean() / truth.mean() == pytest.approx(1, abs=0.25)


def test_permuted_gene_sets_are_worse_on_held_out_cells(planted, fitted):
    shuffled = planted.member[:, np.random.default_rng(1).permutation(GENES)]
    assert errors(log_p(fitted) - log_p(fit(planted.adata, shuffled))) > SURE


def test_wrong_genes_of_a_set_rank_below_the_right_ones(planted):
    """Sets padded by a quarter, so that a fifth of each is wrong: mean AUC of |W| above .9."""
    rng, padded = np.random.default_rng(2), planted.member.copy()
    for row in padded:
        row[rng.choice(np.flatnonzero(~row), SIZE // 4, replace=False)] = True
    found = np.abs(fit(planted.adata, padded).model.loadings.detach().numpy())[:SETS]
    aucs = [
        roc_auc_score(r[p], w[p]) for r, w, p in zip(planted.member, found, padded, strict=True)
    ]
    assert np.mean(aucs) > 0.9
