"""The verdict on a story: its figures, checked by another way of getting them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pgm_expr.evaluation import compare_counts, elbo, fit_baseline, iwae, judge
from pgm_expr.evaluation.bounds import held_out as heldout
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import MeanField, Trace, seeded
from pgm_expr.models import VAE
from pgm_expr.predict import draw_posterior, draw_prior

KEYS = {
    "heldout_elbo",
    "heldout_iwae",
    "heldout_iwae_se",
    "heldout_iwae_2000",
    "kl",
    "active_units",
    "probe_macro_f1",
    "pca_probe_macro_f1",
    "zero_rate_mae",
    "zero_rate_floor",
    "baseline_gene_nb",
}
GENES, LATENT = 10, 3


@pytest.fixture(scope="module")
def world():
    """200 cells of three far types, an untrained story, and its verdict with labels."""
    torch.manual_seed(0)
    label = torch.arange(200) % 3
    rate = 8 * torch.ones(3, GENES) + 40 * torch.eye(3, GENES)
    x = torch.poisson(rate[label]) + (torch.arange(GENES) == 0)
    columns = {"x": x, "library": x.sum(-1, keepdim=True), "label": label}
    sizes = dict(genes=GENES, latent=LATENT, hidden=8)
    pair = VAE(**sizes), VAEGuide(**sizes)

    def sweep(start, stop, *, without=()):
        def batches():
            for rows in torch.arange(start, stop).split(40):
                yield {k: v[rows] for k, v in columns.items() if k not in without}

        return batches

    parts = sweep(0, 140), sweep(140, 200)
    verdict = judge(*pair, *parts, labels=3)
    return SimpleNamespace(pair=pair, parts=parts, sweep=sweep, verdict=verdict, columns=columns)


def split(world):
    return {k: v[:140] for k, v in world.columns.items()}, {
        k: v[140:] for k, v in world.columns.items()
    }


def test_holds_every_figure_and_goes_through_json(world):
    metrics, table = world.verdict
    assert metrics.keys() >= KEYS | {"baseline_label_nb"}
    assert all(isinstance(metrics[key], float | int) for key in KEYS)
    assert json.loads(json.dumps([metrics, table], allow_nan=False)) == [metrics, table]


def test_bounds_are_those_of_the_held_out_cells(world):
    metrics, (first, *_) = world.verdict
    bounds = iwae(*world.pair, world.parts[1]())
    assert metrics["heldout_iwae"] == first["log_p"] == bounds[500].mean().item()
    assert metrics["heldout_iwae_2000"] == bounds[2000].mean().item()
    error = bounds[500].numpy().std(ddof=1) / 60**0.5
    assert metrics["heldout_iwae_se"] == pytest.approx(error, rel=1e-6)
    one_draw = elbo(*world.pair, world.parts[1]())
    noise = one_draw.std().item() / 60**0.5  # over cells and draws
    assert abs(metrics["heldout_elbo"] - one_draw.mean().item()) < 4 * noise
    assert 0 < metrics["heldout_elbo_mcse"] <= 1.5 * heldout.PRECISION
    assert 0 < metrics["heldout_iwae_2000_mcse"] < metrics["heldout_iwae_mcse"] < 0.2
    assert first["measure"] == "iwae-500"


def test_differences_are_paired_over_cells(world):
    metrics, table = world.verdict
    (train, test), story = split(world), iwae(*world.pair, world.parts[1]())[500].numpy()
    rivals = {
        "gene_nb": fit_baseline(train["x"]).log_prob(test["x"]),
        "label_nb": fit_baseline(train["x"], train["label"], 3).log_prob(test["x"], test["label"]),
    }
    rows = {row["model"]: row for row in table}
    assert list(rows) == ["story", "gene_nb", "label_nb", "pca"]
    for name, value in rivals.items():
        gap = story - value.numpy()
        assert rows[name]["story_minus"] == pytest.approx(gap.mean(), rel=1e-6)
        assert rows[name]["paired_se"] == pytest.approx(gap.std(ddof=1) / 60**0.5, rel=1e-6)
        assert rows[name]["log_p"] == metrics[f"baseline_{name}"] == value.mean().item()
        assert rows[name]["measure"] == "exact"


def test_kl_and_active_units_by_hand(world):
    model, guide = (half.eval() for half in world.pair)
    x = split(world)[1]["x"]
    with torch.no_grad():
        h = guide.encode(x.log1p())
        m = guide.posterior.loc(h).numpy()
        s = np.log1p(guide.posterior.raw_scale(h).exp().numpy()) + 1e-4
    kl = 0.5 * (m**2 + s**2 - 1 - 2 * np.log(s))
    metrics, _ = world.verdict
    assert metrics["kl_per_dimension"] == pytest.approx(kl.mean(0).tolist(), rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl.sum(1).mean(), rel=1e-4)
    assert metrics["active_units"] == (m.var(0, ddof=1) > 0.01).sum()
    assert metrics["collapse"] is None or "posterior collapse" in metrics["collapse"]


def test_far_types_are_read_off_the_components(world):
    assert world.verdict[0]["pca_probe_macro_f1"] == 1.0
    assert world.verdict[1][-1] == {"model": "pca", "probe_macro_f1": 1.0}
    assert world.verdict[1][0]["probe_macro_f1"] == world.verdict[0]["probe_macro_f1"]


def test_the_floor_is_real_against_real(world):
    train, test = (part["x"].numpy() for part in split(world))
    floor = compare_counts(test, test, train)["zero_rate_floor"]
    assert world.verdict[0]["zero_rate_floor"] == pytest.approx(floor)


def test_draws_are_of_the_prior_and_of_the_posterior(world):
    """One cell for each held out, by the noise of every evaluation."""
    train, test = (part["x"].numpy() for part in split(world))
    with seeded(heldout.SEED):
        prior = draw_prior(world.pair[0], world.parts[1]()).numpy()
        posterior = draw_posterior(*world.pair, world.parts[1]()).numpy()
    metrics, _ = world.verdict
    for prefix, draws in (("", prior), ("posterior_", posterior)):
        figures = compare_counts(draws, test, train)
        for key in ("zero_rate_mae", "mean_log_ratio", "variance_log_ratio"):
            assert metrics[prefix + key] == pytest.approx(figures[key])
    assert metrics["mean_log_ratio"] != metrics["posterior_mean_log_ratio"]


@pytest.mark.parametrize("without", [("label",), ()], ids=["no column", "column unused"])
def test_without_labels_their_figures_are_none(world, without):
    parts = world.sweep(0, 140, without=without), world.sweep(140, 200, without=without)
    metrics, table = judge(*world.pair, *parts, draws=(5, 20))
    assert metrics["probe_macro_f1"] is None is metrics["pca_probe_macro_f1"]
    assert [row["model"] for row in table] == ["story", "gene_nb"]
    assert "baseline_label_nb" not in metrics and "heldout_iwae_20" in metrics
    assert table[0]["measure"] == "iwae-5"
    json.dumps([metrics, table], allow_nan=False)


def test_unlabelled_cells_do_not_count_for_the_probe(world):
    def hide(batches):
        for batch in batches():
            label = torch.where(torch.arange(len(batch["x"])) < 8, -1, batch["label"])
            yield batch | {"label": label}

    parts = [lambda part=part: hide(part) for part in world.parts]
    metrics, _ = judge(*world.pair, *parts, labels=3, draws=(5, 20))
    assert metrics["pca_probe_macro_f1"] == 1.0
    assert np.isfinite(metrics["baseline_label_nb"])


@pytest.mark.parametrize("objective", [MeanField, Trace])
def test_judges_alike_each_time_and_leaves_the_generator(world, objective):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    verdicts = []
    for _ in range(2):
        verdicts.append(
            judge(*world.pair, *world.parts, labels=3, draws=(5, 20), objective=objective)
        )
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(6)
        state = torch.get_rng_state()
    assert verdicts[0] == verdicts[1]
