"""Comparing variants on the same data: one table, resumed, and what it refuses."""

import csv
import json
import math
import os

import numpy as np
import pytest
import torch

import pgm_expr
from pgm_expr import simulate
from pgm_expr.comparison.grid import Variant, variants

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")

QUICK = dict(epochs=3, draws=5, labels_key="type", hidden=8, latent=2, progress=False)


@pytest.fixture(scope="module")
def adata():
    return simulate.simulate(120, 30, seed=0, types=3, median_library=500.0).to_anndata()


@pytest.fixture(scope="module")
def done(adata, tmp_path_factory):
    """Two objectives, two likelihoods, two priors, two seeds; mean-field and vamp don't go."""
    out = tmp_path_factory.mktemp("compare") / "table"
    table = pgm_expr.compare(
        adata,
        out=out,
        objectives=["mean-field", "iwae-3"],
        likelihoods=["nb", "zinb", "bernoulli"],
        priors=["normal", "vamp"],
        seeds=2,
        **QUICK,
    )
    return table, out


def test_one_row_a_variant_with_the_refused_last(done):
    table, out = done
    assert len(table.rows) == 12 and len(table.to_frame()) == 12
    refused = [row for row in table.rows if row["refused"]]
    assert table.rows[-len(refused) :] == refused
    assert {(r["objective"], r["prior"]) for r in refused} == {("mean-field", "vamp")}
    assert all("no closed-form KL" in row["refused"] for row in refused)
    assert all(row["heldout_iwae"] is None for row in refused)


def test_the_columns_asked_for(done):
    _, out = done
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = (
        "story objective beta likelihood prior seeds heldout_elbo heldout_iwae diff dse kl "
        "active_units probe_macro_f1 seconds"
    ).split()
    assert set(wanted) <= rows[0].keys()
    fitted = [row for row in rows if not row["refused"]]
    assert all(math.isfinite(float(row[key])) for row in fitted for key in wanted[5:])
    assert all(row["seeds"] == "2" for row in fitted)
    assert json.loads((out / "comparison.json").read_text())["rows"][0]["story"] == "vae"
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_one_measure_stand_together_best_first(done):
    table, _ = done
    fitted = [row for row in table.rows if not row["refused"]]
    assert [row["measure"] for row in fitted] == 6 * ["counts given library"] + 3 * ["detection"]
    for measure in {row["measure"] for row in fitted}:
        own = [row for row in fitted if row["measure"] == measure]
        assert own[0]["diff"] == 0 and all(row["diff"] <= 0 for row in own)
        assert [r["heldout_iwae_4k"] for r in own] == sorted(
            [r["heldout_iwae_4k"] for r in own], reverse=True
        )


def test_ends_with_a_sentence_on_zero_inflation(done):
    table, _ = done
    assert table.zero_inflation.startswith("Use ") and "zeros" in table.zero_inflation


def test_a_figure_is_that_of_the_run_it_came_from(done, adata):
    """The row's bound, from the run that was kept, by the evaluation function itself."""
    table, out = done
    row = table.rows[0]
    variant = Variant(*(row[k] for k in ("story", "objective", "beta", "likelihood", "prior")))
    bounds = []
    for seed in (0, 1):
        run = pgm_expr.load(out / "runs" / variant.name / f"seed-{seed}")
        run.training_table(adata)
        cells, split = run.table.cells, run.table.split
        batches = list(pgm_expr.data.sweep(cells, split.test, 64))
        bounds.append(pgm_expr.evaluation.iwae(run.model, run.guide, batches, (5, 20))[5].mean())
    assert row["heldout_iwae"] == pytest.approx(torch.stack(bounds).mean().item(), abs=1e-6)


def digest(out):
    return {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}


def test_repeated_it_fits_nothing_again_and_more_variants_only_themselves(done, adata):
    table, out = done
    before = digest(out)
    again = pgm_expr.compare(
        adata, out=out, objectives=["mean-field"], likelihoods=["nb"], priors=["normal"], **QUICK
    )
    new = digest(out).keys() - before.keys()
    assert {path.parent.name for path in new} == {"seed-2"}  # three seeds by default
    assert {p: t for p, t in digest(out).items() if p in before} == before
    assert again.rows[0]["seeds"] == 3


TWO = dict(objectives=["trace"], likelihoods=["nb", "poisson"], seeds=2)


@pytest.fixture(scope="module")
def whole(adata, tmp_path_factory):
    """The rows of a comparison that nothing interrupts, without times."""
    return timeless(pgm_expr.compare(adata, out=tmp_path_factory.mktemp("whole"), **TWO, **QUICK))


def timeless(table):
    return [{**row, "seconds": 0} for row in table.rows]


def test_an_interrupted_comparison_goes_on(adata, tmp_path, monkeypatch, whole):
    """Killed in the third fit, repeated: the same table as without, two fits not done again."""
    written, replace = [], os.replace

    def die_at_the_third_model(source, target):
        written.append(os.path.basename(target))
        if written.count("model.safetensors") == 3:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", die_at_the_third_model)
    with pytest.raises(KeyboardInterrupt):
        pgm_expr.compare(adata, out=tmp_path / "parts", **TWO, **QUICK)
    monkeypatch.undo()
    files = digest(tmp_path / "parts")
    before = {p: t for p, t in files.items() if p.parent / "model.safetensors" in files}
    parts = pgm_expr.compare(adata, out=tmp_path / "parts", **TWO, **QUICK)
    assert {p: t for p, t in digest(tmp_path / "parts").items() if p in before} == before
    assert len({p.parent for p in before}) == 2 and timeless(parts) == whole


def test_two_processes_give_the_same_table(adata, tmp_path, whole):
    assert timeless(pgm_expr.compare(adata, out=tmp_path / "c", jobs=2, **TWO, **QUICK)) == whole


def test_variants_share_split_and_initial_weights(adata):
    runs = {
        likelihood: pgm_expr.fit(
            adata,
            likelihood=likelihood,
            prior=prior,
            epochs=1,
            learning_rate=1e-12,
            weight_decay=0.0,
            labels_key="type",
            latent=2,
            hidden=8,
            progress=False,
        )
        for likelihood, prior in (("nb", "normal"), ("zinb", "vamp"), ("poisson", "flow"))
    }
    first = runs["nb"]
    for run in runs.values():
        assert np.array_equal(run.table.split.test, first.table.split.test)
        for half in ("model", "guide"):
            own, other = (getattr(r, half).state_dict() for r in (run, first))
            for name in own.keys() & other.keys():
                assert torch.allclose(own[name], other[name], atol=1e-6), name
    assert "decode.0.weight" in first.model.state_dict()


def test_a_fit_that_diverges_is_a_refused_row(adata, tmp_path):
    table = pgm_expr.compare(adata, out=tmp_path / "c", seeds=1, learning_rate=1e30, **QUICK)
    assert "non-finite" in table.rows[0]["refused"] and table.rows[0]["heldout_iwae"] is None


def test_kinds_of_data_are_not_mixed(adata, tmp_path):
    """A story of log values has no place among counts, and says so in its row."""
    table = pgm_expr.compare(
        adata, out=tmp_path / "c", likelihoods=["nb", "gaussian"], seeds=1, **QUICK
    )
    reasons = {row["likelihood"]: row["refused"] for row in table.rows}
    assert reasons == {"nb": None, "gaussian": "gaussian takes values, these data are counts"}


WRONG = {
    "settings": (dict(epochs=4), "other settings (settings)"),
    "draws": (dict(draws=6), "other settings (draws)"),
    "split": (dict(split_seed=1), "other settings (source)"),
    "objective": (dict(objectives=["iwea-5"]), "unknown objective 'iwea'. Did you mean 'iwae'?"),
    "likelihood": (dict(likelihoods=["znb"]), "unknown likelihood 'znb'. Did you mean 'zinb'?"),
    "prior": (dict(priors=["vampp"]), "Did you mean 'vamp'?"),
    "story": (dict(stories=["vea"]), "unknown story 'vea'"),
    "option": (dict(latnet=5), "unknown option 'latnet'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_it_refuses_is_one_line_and_changes_nothing(kind, done, adata):
    _, out = done
    change, words = WRONG[kind]
    before = digest(out), (out / "settings.json").read_text()
    with pytest.raises(ValueError) as caught:
        pgm_expr.compare(adata, out=out, **(QUICK | change))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (digest(out), (out / "settings.json").read_text()) == before


def test_a_folder_of_something_else_is_left_alone(adata, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that are no comparison"):
        pgm_expr.compare(adata, out=tmp_path, **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_every_combination_once_in_the_order_given():
    made = variants(["vae"], ["trace", "trace"], [1, 0.5], ["nb"], [], [])
    assert [v.name for v in made] == ["vae_trace_1_nb_own_own", "vae_trace_0.5_nb_own_own"]
