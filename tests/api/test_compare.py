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
from pgm_expr.inference import load_tensors, save_tensors

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")

QUICK = dict(epochs=3, draws=5, labels_key="type", hidden=8, latent=2, progress=False)


@pytest.fixture(scope="module")
def adata():
    return simulate.simulate(120, 30, seed=0, types=3, median_library=500.0).to_anndata()


@pytest.fixture(scope="module")
def done(adata, tmp_path_factory):
    """Two objectives, likelihoods, priors, splits and seeds; mean-field and vamp don't go."""
    out = tmp_path_factory.mktemp("compare") / "table"
    table = pgm_expr.compare(
        adata,
        out=out,
        objectives=["mean-field", "iwae-3"],
        likelihoods=["nb", "zinb", "bernoulli"],
        priors=["normal", "vamp"],
        splits=2,
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
        "story objective beta likelihood prior splits seeds validation heldout_elbo heldout_iwae "
        "diff se se_cells se_seeds se_splits kl active_units probe_macro_f1 seconds"
    ).split()
    assert set(wanted) <= rows[0].keys()
    fitted = [row for row in rows if not row["refused"]]
    assert all(math.isfinite(float(row[key])) for row in fitted for key in wanted[5:])
    assert all(row["seeds"] == row["splits"] == "2" for row in fitted)
    assert json.loads((out / "comparison.json").read_text())["rows"][0]["story"] == "vae"
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_one_measure_stand_together_best_first(done):
    table, _ = done
    fitted = [row for row in table.rows if not row["refused"]]
    assert [row["measure"] for row in fitted] == 6 * ["counts given library"] + 3 * ["detection"]
    for measure in {row["measure"] for row in fitted}:
        own = [row for row in fitted if row["measure"] == measure]
        assert own[0]["diff"] == own[0]["se"] == 0 and own[0]["tie"] is False
        order = [row["validation"] for row in own]
        assert order == sorted(order, reverse=True)
        for row in own[1:]:
            gap = row["heldout_iwae_4k"] - own[0]["heldout_iwae_4k"]
            assert row["diff"] == pytest.approx(gap)
            parts = (row["se_cells"], row["se_seeds"], row["se_splits"])
            assert row["se"] == pytest.approx(math.hypot(*parts)) and row["se"] > 0


def test_ends_with_a_sentence_on_zero_inflation(done):
    table, _ = done
    assert table.zero_inflation.startswith("Use ") and "zeros" in table.zero_inflation


def test_a_figure_is_that_of_the_run_it_came_from(done, adata):
    """The row's bounds, from the runs that were kept, by the evaluation function itself."""
    table, out = done
    row = table.rows[0]
    variant = Variant(*(row[k] for k in ("story", "objective", "beta", "likelihood", "prior")))
    test, validation = [], []
    for name in ("seed-0", "seed-1", "split-1-seed-0", "split-1-seed-1"):
        run = pgm_expr.load(out / "runs" / variant.name / name)
        run.training_table(adata)
        cells, split = run.table.cells, run.table.split
        for part, draws, bounds in (
            (split.test, (5, 20), test),
            (split.validation, (20,), validation),
        ):
            batches = list(pgm_expr.data.sweep(cells, part, 64))
            found = pgm_expr.evaluation.iwae(run.model, run.guide, batches, draws)
            bounds.append(found[draws[0]].mean())
    assert row["heldout_iwae"] == pytest.approx(torch.stack(test).mean().item(), abs=1e-6)
    assert row["validation"] == pytest.approx(torch.stack(validation).mean().item(), abs=1e-6)


def test_splits_and_seeds_are_those_of_fit(done):
    """Splits by consecutive seeds; seeds of training that no two splits share."""
    table, out = done
    runs = {path.parent.name: json.loads(path.read_text()) for path in out.rglob("story.json")}
    seeds = {name: (n["source"]["split_seed"], n["plan"]["seed"]) for name, n in runs.items()}
    assert seeds == {
        "seed-0": (0, 0),
        "seed-1": (0, 1),
        "split-1-seed-0": (1, 100),
        "split-1-seed-1": (1, 101),
    }


def digest(out):
    return {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}


def test_repeated_it_fits_nothing_again_and_more_variants_only_themselves(done, adata):
    table, out = done
    before = digest(out)
    few = dict(objectives=["mean-field"], likelihoods=["nb"], priors=["normal"], **QUICK)
    again = pgm_expr.compare(adata, out=out, splits=3, seeds=2, **few)
    new = digest(out).keys() - before.keys()
    assert {path.parent.name for path in new} == {"split-2-seed-0", "split-2-seed-1"}
    assert {p: t for p, t in digest(out).items() if p in before} == before
    assert again.rows[0]["splits"] == 3 and again.rows[0]["seeds"] == 2


def forget_validation(file):
    """As version 0.6.0 wrote it."""
    tensors, figures = load_tensors(file)
    del tensors["validation"]
    save_tensors(file, tensors, figures)


def test_a_folder_without_scores_of_validation_cells_is_scored_again(adata, tmp_path):
    """A folder of 0.6.0 keeps its fits; only its scores are made again."""
    few = dict(out=tmp_path / "c", likelihoods=["nb", "poisson"], splits=1, **QUICK)
    first = pgm_expr.compare(adata, **few)
    for file in tmp_path.rglob("heldout.safetensors"):
        forget_validation(file)
    before = {p: t for p, t in digest(tmp_path / "c").items() if p.name != "heldout.safetensors"}
    again = pgm_expr.compare(adata, **few)
    kept = {p: t for p, t in digest(tmp_path / "c").items() if p.name != "heldout.safetensors"}
    assert kept == before and again.rows == first.rows


def test_a_folder_of_another_version_says_so(adata, tmp_path):
    few = dict(out=tmp_path, splits=1, **QUICK)
    pgm_expr.compare(adata, **few)
    place = tmp_path / "settings.json"
    old = {**json.loads(place.read_text()), "stories": {"vae": "0.1.0"}}
    place.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"\(story vae of version 0\.1\.0, not [\d.]+\)"):
        pgm_expr.compare(adata, **few)


def test_one_split_declares_nothing(adata, tmp_path):
    """However far apart: how much splits differ is unknown."""
    table = pgm_expr.compare(
        adata, out=tmp_path, likelihoods=["nb", "poisson"], splits=1, seeds=2, **QUICK
    )
    row = table.rows[1]
    assert row["se"] is row["se_splits"] is row["tie"] is None
    assert row["se_cells"] > 0 and row["se_seeds"] is not None


def test_donors_give_different_test_sets_or_a_message(adata, tmp_path):
    """Four donors have four test sets: repeated ones are passed over."""
    own = adata.copy()
    own.obs["donor"] = np.repeat(["a", "b", "c", "d"], 30)
    few = dict(donor_key="donor", draws=2, epochs=1, hidden=8, latent=2, progress=False)
    pgm_expr.compare(own, out=tmp_path / "c", splits=4, **few)
    tests = set()
    for path in (tmp_path / "c").rglob("story.json"):
        run = pgm_expr.load(path.parent)
        tests.add(tuple(run.training_table(own).split.test))
    assert len(tests) == 4
    with pytest.raises(ValueError, match="splits=5: the donors give 4 different test sets"):
        pgm_expr.compare(own, out=tmp_path / "d", splits=5, **few)
    assert not (tmp_path / "d").exists()


TWO = dict(objectives=["trace"], likelihoods=["nb", "poisson"], splits=2)


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
    table = pgm_expr.compare(adata, out=tmp_path / "c", splits=1, learning_rate=1e30, **QUICK)
    assert "non-finite" in table.rows[0]["refused"] and table.rows[0]["heldout_iwae"] is None


def test_kinds_of_data_are_not_mixed(adata, tmp_path):
    """A story of log values has no place among counts, and says so in its row."""
    table = pgm_expr.compare(
        adata, out=tmp_path / "c", likelihoods=["nb", "gaussian"], splits=1, **QUICK
    )
    reasons = {row["likelihood"]: row["refused"] for row in table.rows}
    assert reasons == {"nb": None, "gaussian": "gaussian takes values, these data are counts"}


WRONG = {
    "settings": (dict(epochs=4), "other settings (settings)"),
    "draws": (dict(draws=6), "other settings (draws)"),
    "seeds": (dict(seeds=0), "seeds must be at least 1: got 0"),
    "splits": (dict(splits=0), "splits must be at least 1: got 0"),
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
