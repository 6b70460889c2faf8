"""When a sentence is good: never by chance alone, never a misfit too small to matter."""

import dataclasses

import numpy as np
import pyro
import pytest
import torch
from scipy.sparse import csr_array

import pgm_expr
from pgm_expr.criticism.held_out import HeldOut
from pgm_expr.criticism.section import ALPHA, BAD, DOUBTFUL, GOOD
from pgm_expr.criticism.sections import SECTIONS
from pgm_expr.criticism.verdict import verdict
from pgm_expr.data import Cells
from pgm_expr.inference import seeded
from pgm_expr.inference.tracing import call
from pgm_expr.runs.simulated_covariates import draw_covariates, missing_entries
from pgm_expr.runs.subset import Subset

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
BY_NAME = {section.name: section for section in SECTIONS}
JUDGED = [section.name for section in SECTIONS if callable(section.judge)]
CHEAP = ("ppc", "markers", "typicality", "differential")


def marked(name, found):
    return BY_NAME[name].judge(found).mark


def test_all_sentences_together_are_within_a_fifth():
    assert len(JUDGED) * ALPHA <= 0.2 + 1e-9


class TestSignificantAndLarge:
    """Each misfit has to be both."""

    @pytest.mark.parametrize(
        ("error", "p", "mark"),
        [(0.5, 0.05, GOOD), (0.07, 0.01, GOOD), (0.2, 0.01, DOUBTFUL), (0.5, 0.01, DOUBTFUL)],
    )
    def test_drawn_counts(self, error, p, mark):
        rows = [{"check": "mean", "drawn": 9.0, "floor": 1.0, "error": error, "expected": 0.04}]
        assert marked("ppc", {"rows": [rows[0] | {"p": p}]}) == mark

    def test_many_wrong_checks_are_bad(self):
        row = {"drawn": 9.0, "floor": 1.0, "error": 0.9, "expected": 0.1, "p": 0.01}
        rows = [row | {"check": name} for name in ("mean", "variance", "tail")]
        assert marked("ppc", {"rows": rows}) == BAD

    @pytest.mark.parametrize(
        ("share", "cells", "mark"),
        [(0.12, 60, GOOD), (0.12, 600, DOUBTFUL), (0.07, 100_000, GOOD), (0.3, 100, BAD)],
    )
    def test_unusual_cells(self, share, cells, mark):
        named = [{"cell": "a"}]
        found = {"share_below_0.05": share, "cells": cells, "least_typical": named}
        assert marked("typicality", found) == mark

    @pytest.mark.parametrize(
        ("auc", "sd", "mark"),
        [(0.6, 0.06, GOOD), (0.6, 0.02, DOUBTFUL), (0.53, 0.001, GOOD), (0.8, 0.05, BAD)],
    )
    def test_generated_cells(self, auc, sd, mark):
        assert marked("two_sample", {"auc": auc, "auc_floor": 0.48, "auc_sd": sd}) == mark

    @pytest.mark.parametrize(
        ("r", "p", "mark"),
        [(0.5, 0.1, GOOD), (0.87, 0.01, GOOD), (0.8, 0.01, DOUBTFUL), (0.5, 0.01, BAD)],
    )
    def test_differences(self, r, p, mark):
        found = {"r": r, "r_replicates": r, "r_expected": 0.9, "p": p, "groups": ["a", "b"]}
        assert marked("differential", found | {"ceiling": {"r": 0.99}}) == mark

    @pytest.mark.parametrize(
        ("gap", "se", "mark"), [(2.3, 0.3, GOOD), (2.3, 0.1, DOUBTFUL), (30.0, 1.0, BAD)]
    )
    def test_the_gap_of_the_bound(self, gap, se, mark):
        found = {"active_units": 2, "dimensions": 3, "pareto_k": {"q50": 0.4}}
        assert marked("health", found | {"iwae_gap": gap, "iwae_gap_se": se}) == mark

    @pytest.mark.parametrize(
        ("covered", "se", "mark"), [(0.8, 0.04, GOOD), (0.8, 0.01, DOUBTFUL), (0.6, 0.04, BAD)]
    )
    def test_intervals_of_the_guide(self, covered, se, mark):
        guide = {"covers_0.9": covered, "covers_0.9_se": se, "shift": 0.1, "width": 1.0}
        assert marked("reference", {"guide": guide, "cells": ["a"]}) == mark

    @pytest.mark.parametrize(
        ("below", "p", "mark"),
        [(0.3, 0.2, GOOD), (0.02, 0.001, GOOD), (0.1, 0.001, DOUBTFUL), (0.3, 0.001, BAD)],
    )
    def test_labels_in_states(self, below, p, mark):
        row = {"what": "label", "probe": "linear", "score": 0.9 - below, "chance": 0.3, "p": 0.005}
        found = [row | {"components": 0.9, "below": below, "below_p": p}]
        assert marked("structure", found) == mark

    @pytest.mark.parametrize(
        ("score", "low", "mark"), [(3, False, GOOD), (3, True, DOUBTFUL), (2, False, BAD)]
    )
    def test_predicted_counts(self, score, low, mark):
        rows = [{"holds": i < score} for i in range(3)]
        scores = [{"score": "CRPS", "rival": "per-gene NB", "low": low}]
        assert marked("calibration", {"rows": rows, "scores": scores, "inside": 0.95}) == mark


def test_nothing_is_good_of_a_story_that_collapsed(found):
    marks = [sentence.mark for sentence in verdict(found)]
    collapsed = verdict(found | {"collapse": "posterior collapse: ..."})
    assert GOOD in marks and all(sentence.mark != GOOD for sentence in collapsed)
    assert [s.mark for s in collapsed if s.mark == BAD] == [mark for mark in marks if mark == BAD]
    assert all("collapse" in sentence.rule for sentence in collapsed)


def test_a_collapsed_story_is_found(adata):
    sizes = dict(latent=3, hidden=16, epochs=10, progress=False)
    keys = dict(labels_key="type", batch_key="batch")
    run = pgm_expr.fit(adata, beta=50.0, **sizes, **keys)
    checks = run.criticize(draws=100, sections=["sbc", "structure"], progress=False)
    assert "posterior collapse" in checks["collapse"]
    assert {sentence.mark for sentence in verdict(checks)} <= {DOUBTFUL, BAD}


def drawn_from(run, held_out, seed):
    """Held-out cells and cells of the fit that the model of a run draws, labelled by state."""
    n = 5 * held_out
    library, covariates = draw_covariates(run.notes, n, {}, np.random.default_rng(seed))
    rows = {"library": library, **missing_entries(n), **covariates}
    batch = {name: torch.as_tensor(value) for name, value in rows.items()}
    batch["library"] = batch["library"].float().view(-1, 1)
    with seeded(seed), torch.no_grad(), pyro.poutine.trace() as recorded:
        call(run.model.eval(), batch)
    x, z = (recorded.trace.nodes[name]["value"].numpy() for name in ("x", "z"))
    cells = Cells(csr_array(x), {**covariates, "label": z.argmax(1)}, run.notes["genes"])
    index = np.arange(n)
    return HeldOut(run, Subset(cells, index[:held_out]), Subset(cells, index[held_out:]), 100)


@pytest.fixture(scope="module")
def slept(folder):
    """The run of the folder as the truth, with a guide that knows its draws."""
    run = pgm_expr.load(folder / "run")
    run = dataclasses.replace(run, folder=None)
    run.sleep(1500, progress=False)
    return run


def test_a_true_story_is_good(slept):
    """Of 12 reports x 4 sentences at most 2% are not good: 5 or more once in 3,000 times."""
    marks = []
    for seed in range(12):
        on = drawn_from(slept, 120, seed)
        marks += [marked(name, BY_NAME[name].measure(on)) for name in CHEAP]
    assert sum(mark != GOOD for mark in marks) < 5


def test_a_likelihood_of_too_little_variance_is_bad(slept):
    """Drawn counts, and their predictions, show it."""
    run = dataclasses.replace(slept)
    on = drawn_from(run, 200, 0)
    with torch.no_grad():
        run.model.likelihood.log_dispersion += 3.0
    try:
        marks = {n: marked(n, BY_NAME[n].measure(on)) for n in ("ppc", "calibration")}
    finally:
        with torch.no_grad():
            run.model.likelihood.log_dispersion -= 3.0
    assert set(marks.values()) == {BAD}
