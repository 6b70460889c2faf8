"""Planted non-finite numbers: what is found, named and saved."""

import math

import pytest
import torch

from pgm_expr.inference import IWAE, MeanField, Trace
from pgm_expr.inference.checkpoint import load_tensors
from pgm_expr.inference.fit import Plan, fit

PLAN = Plan(epochs=3, learning_rate=1e-2, warmup_epochs=0)


@pytest.fixture
def start(table, pair):
    return lambda kind=MeanField, **options: kind(*pair(), cells=table.cells, **options)


def in_order(table):
    """The cells in their order, so that cell 37 is in step 2."""
    return lambda seed: (table.rows(rows) for rows in torch.arange(64).split(16))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kind, particles", [(MeanField, 1), (Trace, 3), (IWAE, 3)])
def test_an_input_that_is_no_count(start, table, tmp_path, value, kind, particles):
    """The message names the site, the cell by its index and the gene's column."""
    objective = start(kind, particles=particles)
    x = table.columns["x"].clone()
    table.columns["x"][37, 5] = value
    validation = [{**table.columns, "x": x}]
    with pytest.raises(FloatingPointError) as caught:
        list(fit(objective, in_order(table), lambda: validation, PLAN, folder=tmp_path))
    message = str(caught.value)
    assert "epoch 0, step 2" in message and "\n" not in message
    assert "guide site 'z' (cells 37;" in message
    assert "model site 'x' (cells 37; columns " in message
    assert "parameter" not in message  # the step was skipped: they are still finite
    assert all(p.isfinite().all() for p in objective.parameters())
    saved, notes = load_tensors(tmp_path / "nonfinite.safetensors")
    assert notes == {"epoch": 0, "step": 2}
    assert torch.equal(saved["index"], torch.arange(32, 48))
    assert torch.equal(saved["x"], table.columns["x"][32:48]) or math.isnan(value)


def test_an_impossible_library_names_cell_and_all_columns(start, table):
    """library = nan leaves z alone: only the site x of that cell is wrong, in 12 columns."""
    table.columns["library"][40] = math.nan
    with pytest.raises(FloatingPointError) as caught:
        list(fit(start(), in_order(table), lambda: [], PLAN))
    assert "model site 'x' (cells 40; columns 0, 1, 2, 3, 4 and 7 more)" in str(caught.value)
    assert "guide site" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_parameter_that_went_wrong(start, table, tmp_path, value):
    """One gene's dispersion, between epochs: parameter, site and column 3 are named."""
    objective = start()
    running = fit(objective, table.batches, table.validation, PLAN, folder=tmp_path)
    next(running)
    with torch.no_grad():
        objective.model.likelihood.log_dispersion[3] = value
    with pytest.raises(FloatingPointError) as caught:
        next(running)
    message = str(caught.value)
    assert "epoch 1, step 0" in message
    assert "parameter model.likelihood.log_dispersion" in message
    assert "model site 'x' (cells" in message and "columns 3)" in message
    assert "guide site" not in message
    assert (tmp_path / "nonfinite.safetensors").exists()


def test_only_a_gradient(start, table):
    """Finite values everywhere: sqrt at 0 has no derivative."""
    objective = start()

    class Cornered(type(objective)):
        def forward(self, **batch):
            corner = self.model.likelihood.log_dispersion[0] * 0
            return super().forward(**batch) + corner.abs().sqrt() * 0

    objective.__class__ = Cornered
    with pytest.raises(FloatingPointError) as caught:
        list(fit(objective, table.batches, table.validation, PLAN))
    message = str(caught.value)
    assert "gradient of model.likelihood.log_dispersion" in message
    assert "site" not in message


@pytest.fixture
def hiccup(start):
    """An objective whose loss is infinite at one call, and never again."""

    def build(at):
        objective = start()
        calls = iter(range(-1, 10_000))  # the linter's comes first

        class Hiccup(type(objective)):
            def forward(self, **batch):
                loss = super().forward(**batch)
                return loss * math.inf if next(calls) == at else loss

        objective.__class__ = Hiccup
        return objective

    return build


def test_one_skipped_step_warns_and_goes_on(hiccup, table, tmp_path):
    objective = hiccup(at=2)
    with pytest.warns(UserWarning, match="skipped a step .* epoch 0, step 2"):
        rows = list(fit(objective, table.batches, table.validation, PLAN, folder=tmp_path))
    assert [row["skipped"] for row in rows] == [1, 0, 0]
    assert all(math.isfinite(row["train"]) for row in rows)
    assert all(p.isfinite().all() for p in objective.parameters())
    saved, _ = load_tensors(tmp_path / "nonfinite.safetensors")
    third = list(table.batches(0))[2]
    assert torch.equal(saved["index"], third["index"])


def test_a_skipped_step_moves_nothing(hiccup, table, weights):
    """Three steps of four are taken: the end is that of the three batches alone."""
    plan = Plan(epochs=1, learning_rate=1e-2, warmup_epochs=0)

    def but_the_last(seed):
        return list(table.batches(seed))[:3]

    skipped, shorter = hiccup(at=3), hiccup(at=-1)
    with pytest.warns(UserWarning, match="step 3"):
        (row,) = fit(skipped, table.batches, table.validation, plan)
    (expected,) = fit(shorter, but_the_last, table.validation, plan)
    assert row["train"] == expected["train"] and row["validation"] == expected["validation"]
    ends = skipped.state_dict(), shorter.state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_look_back_leaves_the_process_as_it_was(hiccup, table):
    objective = hiccup(at=2)
    running = fit(objective, table.batches, table.validation, PLAN)
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="skipped"):
        next(running)
    assert torch.equal(torch.get_rng_state(), state)
    assert objective.training
