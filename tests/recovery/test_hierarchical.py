"""Slow: each latent of the hierarchical story holds the factor of its own prior, and no other."""

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

import pgm_expr
from pgm_expr.simulate import simulate

pytestmark = pytest.mark.slow

KEYS = dict(labels_key="type", batch_key="batch", categorical_covariate_keys=["condition"])
HOLDS = dict(z_type="type", z_state="condition", z_technical="batch")
LEVELS = dict(type=4, condition=2, batch=2)


def score(z, levels, split):
    """How well a line reads held-out cells' levels from their posterior means, 1 at best."""
    fitted = LogisticRegression(max_iter=2000).fit(z[split.development], levels[split.development])
    return balanced_accuracy_score(levels[split.test], fitted.predict(z[split.test]))


@pytest.mark.parametrize("seed", [0, 1])
def test_each_latent_holds_its_own_factor_only(seed):
    """Labels withheld; "nothing" is chance and four standard errors of the test cells, at most."""
    truth = simulate(2000, 200, seed=seed, batches=2, conditions=2, latent=2)
    adata = truth.to_anndata()
    run = pgm_expr.fit(adata, "hierarchical", seed=seed, progress=False, **KEYS)
    run.embed(adata)
    assert len(run.table.split.test) >= 190
    for site, own in HOLDS.items():
        z = adata.obsm[f"{run.key}_{site}"]
        for factor, levels in LEVELS.items():
            found = score(z, getattr(truth, factor), run.table.split)
            chance, cells = 1 / levels, len(run.table.split.test)
            error = (chance * (1 - chance) / cells) ** 0.5
            assert found > 0.95 if factor == own else found < chance + 4 * error, (site, factor)
