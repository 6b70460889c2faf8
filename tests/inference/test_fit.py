"""The engine: what it records, keeps, selects and repeats to the bit."""

import copy
import itertools
import subprocess
import sys

import pyro
import pytest
import torch
from torch import nn

from pgm_expr.inference import IWAE, MeanField, Trace
from pgm_expr.inference.checkpoint import load_tensors
from pgm_expr.inference.fit import Plan, fit, score
from pgm_expr.inference.rng import VALIDATION_SEED
from pgm_expr.inference.schedule import warmup

TINY = 1e-12  # lost in the rounding of any weight
PLAN = Plan(epochs=8, learning_rate=1e-2, warmup_epochs=3, patience=40)
SETTINGS = [
    "validate_infer",
    "validate_poutine",
    "validate_distributions_pyro",
    "validate_distributions_torch",
    "module_local_params",
]


@pytest.fixture
def start(table, pair):
    """Builds an objective on a small VAE, and runs a plan on it."""

    def objective(seed=0, kind=MeanField):
        return kind(*pair(seed), cells=table.cells)

    return objective


def run(objective, table, plan=PLAN, **options):
    return fit(objective, table.batches, table.validation, plan, **options)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def planned(**changes):
    return Plan(**{**vars(PLAN), **changes})


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"batch_size": 1.5},
        {"learning_rate": 0.0},
        {"patience": "4"},
        {"seed": -1},
        {"weight_decay": float("nan")},
        {"learning_rate": float("nan")},
        {"epochs": True},
    ],
    ids=str,
)
def test_a_plan_refuses_what_no_training_can_do(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} must be a .*number of at least") as caught:
        Plan(**wrong)
    assert "\n" not in str(caught.value)


def test_yields_one_documented_row_an_epoch(start, table):
    rows = list(run(start(), table))
    assert [row["epoch"] for row in rows] == list(range(8))
    keys = {"epoch", "beta", "train", "validation", "skipped", "seconds"}
    assert all(row.keys() == keys for row in rows)
    assert all(row["skipped"] == 0 and row["seconds"] > 0 for row in rows)
    assert rows[-1]["validation"] > rows[0]["validation"]


def test_row_holds_the_loss_and_the_bound(start, table):
    """Where nothing is learned: the mean loss over steps, and the bound over cells."""
    objective = start()
    (row,) = run(objective, table, planned(epochs=1, learning_rate=TINY, warmup_epochs=0))
    torch.manual_seed(0)
    exact = [objective.train()(**batch).item() for batch in table.batches(0) for _ in range(50)]
    assert row["train"] == pytest.approx(sum(exact) / len(exact), abs=0.5)
    assert row["validation"] == score(objective, table.validation())


@pytest.mark.parametrize("sizes", [[64], [60, 4]])
def test_score_is_the_mean_over_cells_in_evaluation_mode(start, table, sizes):
    """Cells count, not batches; on the engine's own draws, and without dropout."""
    objective = start(kind=Trace)
    batches = [table.rows(rows) for rows in torch.arange(64).split(sizes)]
    torch.manual_seed(VALIDATION_SEED)
    bounds = torch.cat([objective.eval().per_cell(**batch) for batch in batches])
    assert score(objective.train(), batches) == pytest.approx(bounds.mean().item(), rel=1e-6)
    assert objective.training and objective.guide.training


def test_is_repeatable_to_the_bit(start, table):
    first, second = start(), start()
    rows = timeless(run(first, table))
    torch.randn(5)  # what else the process draws does not matter
    assert timeless(run(second, table)) == rows
    assert same(first.state_dict(), second.state_dict())


def test_seed_and_epoch_decide_order_and_noise(start, table):
    seeds = []

    def batches(seed):
        seeds.append(seed)
        return [table.columns]  # always the same batch: only noise can differ

    still = planned(learning_rate=TINY, warmup_epochs=0, epochs=4, patience=9)
    losses = {}
    for seed in (0, 1):
        seeds.clear()
        rows = list(fit(start(), batches, table.validation, Plan(**{**vars(still), "seed": seed})))
        losses[seed] = [row["train"] for row in rows]
        assert len({row["validation"] for row in rows}) == 1  # paired over epochs
        assert len(set(seeds[-4:])) == 4
    assert len({*losses[0], *losses[1]}) == 8


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("kind", [MeanField, IWAE])
def test_resumes_to_the_bit(start, table, tmp_path, k, kind):
    """Dropout, Adam's moments, warm-up and selection all go on as if never interrupted."""
    whole = start(kind=kind)
    rows = timeless(run(whole, table))
    broken = run(start(kind=kind), table, folder=tmp_path, checkpoint_seconds=0)
    for _ in range(k):
        next(broken)
    broken.close()
    resumed = start(seed=9, kind=kind)  # another initialisation: all comes from the folder
    assert timeless(run(resumed, table, folder=tmp_path)) == rows
    assert same(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("k", [2, -1])
def test_resumes_early_stopping(start, table, tmp_path, k):
    plan = planned(epochs=200, learning_rate=0.1, patience=4)
    whole = start()
    rows = timeless(run(whole, table, plan))
    assert 3 + 4 < len(rows) < 200
    broken = run(start(), table, plan, folder=tmp_path, checkpoint_seconds=0)
    list(itertools.islice(broken, k % len(rows)))
    broken.close()
    resumed = start(seed=9)
    assert timeless(run(resumed, table, plan, folder=tmp_path)) == rows
    assert same(resumed.state_dict(), whole.state_dict())


def test_a_finished_run_trains_no_further(start, table, tmp_path):
    """Minibatches are asked for once, to check the pair, and not for an epoch."""
    whole, seeds = start(), []
    rows = timeless(run(whole, table, folder=tmp_path, checkpoint_seconds=0))

    def batches(seed):
        seeds.append(seed)
        return table.batches(seed)

    again = start(seed=9)
    assert timeless(fit(again, batches, table.validation, PLAN, folder=tmp_path)) == rows
    assert same(again.state_dict(), whole.state_dict()) and len(seeds) == 1


def test_a_broken_checkpoint_is_refused(start, table, tmp_path):
    list(run(start(), table, folder=tmp_path, checkpoint_seconds=0))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        next(run(start(), table, folder=tmp_path))


def test_checkpoints_keep_their_distance(start, table, tmp_path):
    list(run(start(), table, folder=tmp_path, checkpoint_seconds=1000))
    assert not list(tmp_path.iterdir())


KILLED = '''
"""Fits in child processes that are killed at random moments; argv: a folder."""
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from pgm_expr.guides import VAEGuide
from pgm_expr.inference.checkpoint import load_tensors, save_tensors
from pgm_expr.inference.rng import VALIDATION_SEED
from pgm_expr.inference.fit import Plan, fit
from pgm_expr.inference.objective import MeanField
from pgm_expr.models import VAE

EPOCHS, out = int(sys.argv[2]), Path(sys.argv[1])
random.seed(0), torch.manual_seed(0)
x = torch.poisson(torch.rand(32, 8) * 5) + 1
batch = {"x": x, "library": x.sum(-1, keepdim=True)}

def batches(seed):
    order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
    return ({name: t[rows] for name, t in batch.items()} for rows in order.split(16))

def pair():
    return VAE(8, latent=2, hidden=8), VAEGuide(8, latent=2, hidden=8)

def child(folder):
    folder.mkdir(exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    objective = MeanField(*pair(), cells=32)
    plan = Plan(epochs=EPOCHS, warmup_epochs=20, patience=EPOCHS)
    history = list(fit(objective, batches, lambda: [batch], plan, folder=folder,
                       checkpoint_seconds=0))
    bounds = torch.tensor([row["validation"] for row in history], dtype=torch.float64)
    save_tensors(folder / "final.safetensors", objective.state_dict() | {"history": bounds})
    os._exit(0)

list(fit(MeanField(*pair(), cells=32), batches, lambda: [batch],
         Plan(epochs=1)))  # torch imports the rest of itself now, not in each child
started = time.monotonic()
assert os.waitpid(child(out / "whole"), 0)[1] == 0
takes, lengths = time.monotonic() - started, [0]
for kill in range(10):
    pid = child(out / "killed")
    time.sleep(takes * random.uniform(0.02, 0.14))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "finished before it was killed"
    for path in (out / "killed").iterdir():
        if not path.name.startswith("."):
            tensors, notes = load_tensors(path)  # whole, or ValueError
            assert all(t.isfinite().all() for t in tensors.values())
            lengths.append(len(notes["history"]))
assert lengths == sorted(lengths) and lengths[-1] > 10, lengths
assert len(set(lengths)) > 5, lengths
assert os.waitpid(child(out / "killed"), 0)[1] == 0
'''


def test_killed_ten_times_it_ends_in_the_weights_of_the_run_never_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, script, tmp_path, "100"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ends = [load_tensors(tmp_path / run / "final.safetensors")[0] for run in ("whole", "killed")]
    assert len(ends[0]["history"]) == 100 and same(*ends)


class Scored(MeanField):
    """Its bound is what the batch says it is, where it says so."""

    def per_cell(self, *, score=None, **batch):
        return super().per_cell(**batch) if score is None else score


def trained(start, table, scores, **changes):
    """Rows, the weights after each epoch and those kept, where each epoch's bound is given."""
    values = iter(scores)
    objective, states, rows = start(kind=Scored), [], []

    def validation():
        return [{"score": torch.tensor([next(values)], dtype=torch.float64)}]

    for row in fit(objective, table.batches, validation, planned(**changes)):
        rows.append(row)
        states.append(copy.deepcopy(objective.state_dict()))
    assert [row["validation"] for row in rows] == pytest.approx(scores[: len(rows)], nan_ok=True)
    return states, objective.state_dict()


def test_keeps_the_best_epoch_after_the_warm_up(start, table):
    """Epochs 0..2 look better but were judged on their way to beta = 1."""
    scores = [9.0, 8.0, 7.0, 1.0, 2.0, 3.0, 0.0, 2.9, 0.0, 0.0]
    states, kept = trained(start, table, scores, epochs=50, patience=3)
    assert len(states) == 9  # patience 3 after epoch 5
    assert same(kept, states[5]) and not same(states[5], states[8])


def test_patience_counts_from_the_end_of_the_warm_up(start, table):
    states, kept = trained(start, table, range(0, -50, -1), epochs=50, patience=2)
    assert len(states) == 6 and same(kept, states[3])


def test_equal_scores_are_no_improvement(start, table):
    states, kept = trained(start, table, [1.0] * 50, epochs=50, patience=2, warmup_epochs=0)
    assert len(states) == 3 and same(kept, states[0])


def test_a_score_that_is_no_number_is_never_the_best(start, table):
    scores = [float("nan"), 1.0, 2.0, float("nan"), 0.0]
    states, kept = trained(start, table, scores, epochs=5, warmup_epochs=0)
    assert same(kept, states[2])


def test_without_validation_the_last_epoch_is_kept(start, table, weights):
    objective, states = start(), []
    for _ in fit(objective, table.batches, None, planned(epochs=6, patience=2)):
        states.append(weights(objective))
    assert len(states) == 6 and same(objective.state_dict(), states[5])


def test_stops_after_the_last_epoch_within_the_warm_up(start, table):
    rows = list(run(start(), table, planned(epochs=2, warmup_epochs=5)))
    assert len(rows) == 2


def test_restored_weights_score_as_their_row(start, table):
    objective = start()
    rows = list(run(objective, table, planned(epochs=30, learning_rate=0.1)))
    bounds = [row["validation"] for row in rows[3:]]
    assert score(objective, table.validation()) == max(bounds) != bounds[-1]


def test_beta_rises_to_exactly_one(start, table):
    rows = list(run(start(), table))
    betas = [row["beta"] for row in rows]
    assert betas[:3] == pytest.approx([0.25, 0.5, 0.75]) and betas[3:] == [1.0] * 5
    assert warmup(0, 0) == warmup(7, 7) == 1.0 and warmup(6, 7) == 7 / 8


def test_beta_and_free_bits_are_the_plans(start, table):
    """Each epoch's loss is that of an objective set by hand; validation knows neither."""
    plain, floored = planned(epochs=4, learning_rate=TINY), {}
    (*_, last) = run(start(), table, plain)
    for settings in ({"beta": 0.5}, {"beta": 2.0, "free_bits": 5.0}):
        rows = list(run(start(), table, planned(epochs=4, learning_rate=TINY, **settings)))
        rise = [0.25, 0.5, 0.75, 1.0]
        assert [row["beta"] for row in rows] == pytest.approx([settings["beta"] * b for b in rise])
        assert rows[-1]["validation"] == last["validation"]
        floored[settings["beta"]] = rows[-1]["train"] - last["train"]
    kl = -2 * floored[0.5]  # loss(1) - loss(.5) = KL / 2, on the same draws
    assert 0 < kl < 2 * 5.0 and floored[2.0] == pytest.approx(2 * 2 * 5.0 - kl, rel=1e-4)
    with pytest.raises(ValueError, match="IWAE has no KL to floor"):
        next(run(start(kind=IWAE), table, planned(free_bits=1.0)))


def test_selection_is_on_the_untempered_bound(start, table):
    """Where nothing is learned the bound stays, while the tempered loss moves with beta."""
    rows = list(run(start(), table, planned(learning_rate=TINY)))
    assert len({row["validation"] for row in rows}) == 1


def test_weight_decay_is_for_matrices_alone(start, table):
    """One step from the same state: matrices differ by lr * decay * weight, vectors not at all."""
    plan = dict(epochs=1, warmup_epochs=0, learning_rate=0.01)

    def one_batch(_):
        return [table.columns]

    ends = {}
    for decay in (0.0, 0.5):
        objective = start()
        before = dict(objective.state_dict())
        before = {name: t.clone() for name, t in before.items()}
        list(fit(objective, one_batch, table.validation, planned(**plan, weight_decay=decay)))
        ends[decay] = objective.state_dict()
    assert {t.ndim for _, t in objective.named_parameters()} == {1, 2}
    for name, parameter in objective.named_parameters():
        shrunk = 0.01 * 0.5 * before[name] * (parameter.ndim > 1)
        assert torch.allclose(ends[0.5][name], ends[0.0][name] - shrunk, atol=1e-7), name
        assert parameter.ndim > 1 or torch.equal(ends[0.5][name], ends[0.0][name])


def test_leaves_the_process_as_it_was(start, table):
    """Random state, Pyro's settings and parameter store: at each row and at the end."""
    objective = start()
    state = torch.get_rng_state()
    settings = [pyro.settings.get(name) for name in SETTINGS]
    for _ in run(objective, table):
        assert torch.equal(torch.get_rng_state(), state)
        assert [pyro.settings.get(name) for name in SETTINGS] == settings
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize("on", [True, False])
def test_validation_is_on_for_the_first_batch_only(table, pair, on):
    seen = []

    class Watched(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.inner = model

        def forward(self, library, x=None):
            seen.append(torch.distributions.Distribution._validate_args)
            return self.inner(library, x)

    model, guide = pair()
    with pyro.validation_enabled(on):
        list(run(Trace(Watched(model), guide, cells=64), table, planned(epochs=2)))
    assert seen[0] and not any(seen[1:]) and len(seen) == 1 + 2 * (4 + 2)


def test_refuses_a_pair_that_does_not_match_before_training(table, pair):
    class Other(nn.Module):
        def forward(self, library, x=None):
            with pyro.plate("cells", len(library)):
                pyro.sample("w", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(ValueError, match="do not match"):
        next(run(Trace(pair()[0], Other(), cells=64), table))


def test_finds_the_evidence_of_the_best_ppca(stories):
    """Maximum likelihood in closed form (Tipping and Bishop 1999), where the optimum has a
    diagonal posterior: the whole engine comes within .05 nat of it, from below."""
    torch.manual_seed(0)
    x = stories.PPCA()(torch.ones(400, 1)).detach()
    columns = {"x": x, "library": torch.ones(400, 1)}
    centred = (x - x.mean(0)).double()
    values = torch.linalg.eigvalsh(centred.T @ centred / 400).flip(0)  # (G,) falling
    kept, noise = values[:3], values[3:].mean()
    half_log_det = (kept.log().sum() + 3 * noise.log()) / 2
    best = -half_log_det.item() - 3 * (torch.log(torch.tensor(2 * torch.pi)).item() + 1)

    def batches(seed):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
        return ({name: t[rows] for name, t in columns.items()} for rows in order.split(100))

    objective = MeanField(stories.PPCA(), stories.DiagonalGuide(), cells=400, particles=2)
    plan = Plan(epochs=300, learning_rate=0.02, weight_decay=0.0, warmup_epochs=5, patience=300)
    rows = list(fit(objective, batches, lambda: [columns], plan))
    evidence = objective.model.evidence(x).mean().item()
    assert evidence < best + 1e-4
    assert best - evidence < 0.05
    assert abs(score(objective, [columns] * 100) - best) < 0.08
    assert rows[-1]["validation"] == pytest.approx(best, abs=0.2)
