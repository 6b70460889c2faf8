"""Mixing of batches by scib-metrics where it is installed; where it is not, that is said."""

import sys

import numpy as np
import pytest

from pgm_expr.evaluation.latent.mixing import mixing


def states(seed, shift=0.0, confounded=False, cells=200):
    """Two labels of two batches, the second of which is shifted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=cells)
    batches = (rng.random(cells) < np.where(labels, 0.8, 0.2 if confounded else 0.8)).astype(int)
    z = rng.normal(size=(cells, 3))
    z[:, 1] += 6 * labels
    z[:, 0] += shift * batches
    return z, batches, labels


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scib_metrics", None)
    with pytest.raises(ValueError, match="^scib-metrics is not installed: pip install scib-metr"):
        mixing(*states(0))


def test_a_broken_package_is_no_missing_one(monkeypatch, tmp_path):
    (tmp_path / "scib_metrics.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scib_metrics", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        mixing(*states(0))


class TestFigures:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("scib_metrics")

    def test_mixed_batches_are_at_chance(self):
        """p of 19 permutations is .05 once in 20; all of three at once hardly ever."""
        found = mixing(*states(0, confounded=True), permutations=19)
        assert {*found} == {"iLISI", "kBET", "silhouette"}
        assert max(each.p for each in found.values()) > 0.05
        assert all(abs(each.score - each.chance) < 0.1 for each in found.values())

    def test_shifted_batches_are_found(self):
        for each in mixing(*states(0, shift=3.0), permutations=19).values():
            assert each.p == 0.05 and each.score < each.chance - 0.1

    def test_without_labels_confounded_batches_look_unmixed(self):
        z, batches, labels = states(0, confounded=True)
        assert mixing(z, batches, permutations=19)["iLISI"].p == 0.05
        assert mixing(z, batches, labels, permutations=19)["iLISI"].p > 0.05

    def test_what_would_mean_nothing_is_refused(self):
        z, _, labels = states(0)
        with pytest.raises(ValueError, match="^no label has cells of two batches"):
            mixing(z, labels, labels)
        with pytest.raises(ValueError, match="^mixing needs 30 cells: got 20"):
            mixing(z[:20], labels[:20])
