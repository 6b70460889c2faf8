"""What `fit` takes, what decides its weights, and what it leaves as it was."""

import numpy as np
import pytest
import torch

import pgm_expr
from pgm_expr import Story, simulate
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import Plan, PosteriorCollapse, Trace, score
from pgm_expr.models import VAE
from pgm_expr.runs.fit import make_plan

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of two epochs

SMALL = dict(latent=2, hidden=8, epochs=2, progress=False)


@pytest.fixture(scope="module")
def adata():
    truth = simulate.simulate(60, 20, seed=0, types=2, batches=2, median_library=2000.0)
    return truth.to_anndata()


def fit(data, *positional, **options):
    return pgm_expr.fit(data, *positional, **SMALL | options)


def weights(run):
    return torch.cat([p.flatten() for half in (run.model, run.guide) for p in half.parameters()])


def bounds(run):
    return [(row["train"], row["validation"]) for row in run.history]


def test_a_file_is_the_data_in_memory(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    path = tmp_path / "cells.h5ad"
    runs = [fit(source) for source in (adata, path, str(path))]
    for run in runs[1:]:
        assert torch.equal(weights(run), weights(runs[0]))
        assert run.notes["source"]["hash"] == runs[0].notes["source"]["hash"]
    assert [run.notes["source"]["data"] for run in runs] == [None, str(path), str(path)]


def test_a_data_set_by_name():
    run = fit("pbmc68k_reduced", labels_key="bulk_labels", min_cells=200)
    assert run.notes["source"]["data"] == "pbmc68k_reduced"
    assert run.notes["dims"] == {"genes": len(run.table.cells.genes), "labels": 10}
    assert run.notes["cells"] == {"train": 504, "validation": 56, "test": 140}
    assert len(run.history) == 2 and np.isfinite(bounds(run)).all()


def test_a_layer_holds_the_counts(adata):
    moved = adata.copy()
    moved.layers["umi"], moved.X = moved.X.copy(), moved.X.log1p()
    assert torch.equal(weights(fit(moved, layer="umi")), weights(fit(adata)))
    with pytest.raises(ValueError, match="umi"):
        fit(moved)


def test_options_reach_story_plan_and_objective(adata):
    run = fit(
        adata, objective="iwae-3", likelihood="zinb", latent=3, batch_size=16, learning_rate=0.01
    )
    assert run.notes["options"] == {"likelihood": "zinb", "latent": 3, "hidden": 8}
    assert type(run.model.likelihood).__name__ == "ZeroInflatedNB"
    assert run.notes["plan"]["batch_size"] == 16 and run.notes["plan"]["learning_rate"] == 0.01
    objective = run.objective(cells=5)
    assert (type(objective).__name__, objective.particles, objective.cells) == ("IWAE", 3, 5)
    assert not run.model.training and not run.guide.training


TAUGHT = dict(epochs=40, latent=3, hidden=32, warmup_epochs=5, learning_rate=0.01, batch_size=32)


@pytest.fixture(scope="module")
def far():
    """Three types that no average describes."""
    scales = simulate.Scales(type=2.0)
    truth = simulate.simulate(120, 30, seed=0, types=3, median_library=1000.0, scales=scales)
    return truth.to_anndata()


@pytest.mark.filterwarnings("error:posterior collapse")
def test_training_finds_far_types_and_keeps_the_best_epoch(far):
    """Silently: the latent space is in use. The weights kept give the best row's figure again."""
    run = fit(far, **TAUGHT)
    bounds = [row["validation"] for row in run.history]
    best = max(bounds[5:])
    assert best > bounds[0] + 10
    batches = [run.table.cells.rows(run.table.split.validation)]
    assert score(run.objective().eval(), batches) == pytest.approx(best, abs=1e-6)


def test_the_seed_decides_the_weights(adata):
    """Those it starts from, and by order and noise those it ends in."""
    for rate in (1e-12, 1e-2):
        first, again, other = (
            weights(fit(adata, seed=seed, learning_rate=rate)) for seed in (3, 3, 4)
        )
        assert torch.equal(first, again) and (first != other).float().mean() > 0.5


def test_the_split_has_a_seed_of_its_own(adata):
    def tests(**seeds):
        return fit(adata, **seeds).table.split.test.tolist()

    default = tests()
    assert default == tests(seed=9) == np.random.default_rng(0).permutation(60)[:12].tolist()
    assert default != tests(split_seed=1)
    assert tests(split_seed=1) == np.random.default_rng(1).permutation(60)[:12].tolist()


def test_whole_groups_are_split(adata):
    grouped = adata.copy()
    grouped.obs["donor"] = [f"d{n % 6}" for n in range(60)]
    split = fit(grouped, split_key="donor").table.split
    donors = [set(part % 6) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, donors)) == 6 == len(set.union(*donors))


def test_labels_and_batches_do_not_change_a_story_without_them(adata):
    plain = fit(adata)
    told = fit(adata, labels_key="type", batch_key="batch", categorical_covariate_keys=["batch"])
    assert torch.equal(weights(told), weights(plain)) and bounds(told) == bounds(plain)
    assert told.notes["dims"] == {"genes": 20, "labels": 2, "batches": 2, "conditions": 3}


def test_nothing_of_the_caller_is_changed(adata):
    """Generators, the data, Pyro's parameter store, validation and gradients."""
    import pyro

    before = adata.copy()
    torch.manual_seed(11), np.random.seed(11)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    switches = (torch.is_grad_enabled(), pyro.settings.get())
    fit(adata, labels_key="type")
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert (torch.is_grad_enabled(), pyro.settings.get()) == switches
    assert not dict(pyro.get_param_store())
    assert (adata.X != before.X).nnz == 0 and list(adata.obsm) == list(before.obsm)
    assert adata.obs.equals(before.obs)


@pytest.mark.parametrize(
    "settings, cells, epochs",
    [
        ({"batch_size": 128}, 12_800, 60),  # 6,000 steps of 128
        ({"batch_size": 256}, 12_800, 120),
        ({"batch_size": 128}, 128, 1000),  # at most
        ({"batch_size": 128}, 50, 1000),  # a batch is never more than the cells
        ({"batch_size": 128}, 1_000_000, 50),  # at least
        ({"batch_size": 128, "epochs": 7}, 12_800, 7),
        ({"batch_size": 128, "epochs": None, "seed": None}, 12_800, 60),
    ],
)
def test_epochs_make_about_as_many_steps(settings, cells, epochs):
    plan = make_plan(settings, cells)
    assert (plan.epochs, plan.batch_size, plan.seed) == (epochs, settings["batch_size"], 0)


@pytest.mark.parametrize("settings", [{}, {"batch_size": None}])
def test_a_plan_left_open_is_the_default(settings):
    plan = make_plan(settings, 100 * Plan.batch_size)
    assert plan == Plan(epochs=60)


def test_a_collapsed_fit_warns(far):
    """Nothing is learned at a learning rate of nothing, and the gate fires."""
    with pytest.warns(PosteriorCollapse, match="posterior collapse: KL is"):
        fit(far, **TAUGHT | dict(learning_rate=1e-9, epochs=1))


class Sparse(VAE):
    """A user's model: another decoder width by another name."""

    def __init__(self, genes, average=None, latent=2, width=8):
        super().__init__(genes, average, latent, width)


class SparseGuide(VAEGuide):
    def __init__(self, genes, latent=2, width=8):
        super().__init__(genes, latent, width)


def test_a_story_of_ones_own(adata):
    story = Story(model=Sparse, guide=SparseGuide, objective=Trace)
    run = pgm_expr.fit(adata, story, epochs=2, width=5, progress=False)
    assert run.notes["story"] == "own" and run.notes["options"] == {"width": 5}
    assert run.model.decode[0].out_features == 5 and type(run.objective()) is Trace
    assert run.embed(adata).shape == (60, 2) and "X_pgm_own" in adata.obsm
    del adata.obsm["X_pgm_own"]


class BySets(VAE):
    """A user's model that takes gene sets and perturbations."""

    def __init__(self, genes, gene_sets, perturbations, average=None, latent=2):
        super().__init__(genes, average, latent, len(gene_sets) + perturbations)
        self.gene_sets = gene_sets


def test_gene_sets_reach_a_story_when_fitted_and_when_loaded(adata, tmp_path):
    """As (S, G) of zeros and ones; the width of the decoder counts sets and perturbations."""
    story = Story(model=BySets, guide=VAEGuide)
    sets = {"a": ["gene0", "gene3", "gene5"], "b": ["gene3", "gene4", "gene19", "none"]}
    told = dict(gene_sets=sets, perturbation_key="type", control="type0")
    run = fit(adata, story, **told | dict(hidden=8), out=tmp_path / "run")
    expected = np.zeros((2, 20))
    expected[0, [0, 3, 5]] = expected[1, [3, 4, 19]] = 1
    again = pgm_expr.load(tmp_path / "run", story)
    for each in (run, again):
        assert np.array_equal(each.model.gene_sets, expected)
        assert each.model.decode[0].out_features == 3
    for missing, wanted in (("gene_sets", "gene_sets"), ("perturbation_key", "perturbation_key")):
        less = {n: v for n, v in told.items() if n != missing and n != "control"}
        with pytest.raises(ValueError, match=rf"requires `\w+`; pass {wanted} to fit\(\)"):
            fit(adata, story, **less)


class Reader(VAEGuide):
    """A guide that reads labels and targets: they move its answer."""

    def forward(self, library, label=None, target=None, x=None):
        moved = x + 50.0 * (label[:, None] + 1) + target.nan_to_num(0.0).abs()
        super().forward(library, moved)


class Told(VAE):
    def forward(self, library, label=None, target=None, x=None):
        return super().forward(library, x)


@pytest.mark.parametrize("hidden_part", ["validation", "test"])
def test_labels_and_targets_are_hidden_where_a_story_is_judged(adata, hidden_part):
    """Other labels and targets of those cells: the same history, the same figures, the same z."""
    told = adata.copy()
    told.obs["growth"] = np.arange(60.0)
    told.obs["type"] = told.obs["type"].astype(str)
    first = fit(told, Story(model=Told, guide=Reader), labels_key="type", target_key="growth")
    other = told.copy()
    hidden = getattr(first.table.split, hidden_part)
    types = other.obs["type"].to_numpy().copy()
    types[hidden] = np.roll(types[hidden], 1)
    growth = other.obs["growth"].to_numpy().copy()
    growth[hidden] += 7
    other.obs["type"], other.obs["growth"] = types, growth
    second = fit(other, Story(model=Told, guide=Reader), labels_key="type", target_key="growth")
    assert bounds(first) == bounds(second)
    assert np.array_equal(first.embed(told), second.embed(other))
    figures = [run.evaluate() for run in (first, second)]
    about_labels = {"baseline_label_nb", "probe_macro_f1", "pca_probe_macro_f1", "table"}
    for name in figures[0].keys() - about_labels - {"cells_per_second"}:
        assert figures[0][name] == figures[1][name], name


WRONG = {
    "story": (dict(story="vea"), ["'vea'", "'vae'"]),
    "option": (dict(latnt=3), ["'latnt'", "'latent'"]),
    "plan": (dict(learning_rate=-1.0), ["learning_rate", "-1"]),
    "misspelt plan": (dict(epoch=3), ["'epoch'"]),
    "half an epoch": (dict(epochs=2.5), ["epochs", "2.5"]),
    "float of epochs": (dict(epochs=3.0), ["epochs", "3.0"]),
    "endless epochs": (dict(epochs=float("inf")), ["epochs", "inf"]),
    "text for a size": (dict(batch_size="a"), ["batch_size", "'a'"]),
    "part": (dict(likelihood="znb"), ["'znb'", "'zinb'"]),
    "objective": (dict(objective="mean-feild"), ["'mean-feild'", "'mean-field'"]),
    "device": (dict(device="gpu9"), ["'gpu9'", "auto"]),
    "layer": (dict(layer="counts"), ["counts"]),
    "label": (dict(labels_key="typ"), ["'typ'", "'type'"]),
    "batch": (dict(batch_key="plate"), ["'plate'"]),
    "split": (dict(split_key="donor"), ["'donor'"]),
    "keys": (dict(categorical_covariate_keys="batch"), ["categorical_covariate_keys", "list"]),
    "genes": (dict(n_top_genes=0), ["n_top_genes"]),
    "perturbation": (dict(perturbation_key="guide"), ["'guide'"]),
    "control": (dict(perturbation_key="type", control="typ0"), ["'typ0'", "'type0'"]),
    "control alone": (dict(control="type0"), ["perturbation_key"]),
    "target": (dict(target_key="type"), ["'type'", "numeric"]),
    "gene sets": (dict(gene_sets={"a": ["Gene0"]}), ["'Gene0'", "'gene0'"]),
    "dropout": (dict(decoder_dropout=2.0), ["dropout"]),
    "no dropout": (dict(decoder_dropout=float("nan")), ["dropout"]),
    "data": (dict(data="pbmc68k_reducd"), ["pbmc68k_reduced"]),
    "dims": (dict(genes=5), ["'genes'"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_is_refused_in_one_line_before_writing(adata, tmp_path, kind):
    options, words = WRONG[kind]
    with pytest.raises(ValueError) as caught:
        fit(**{"data": adata, "out": tmp_path / "run"} | options)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    assert all(word in str(caught.value) for word in words), caught.value
