"""Every pair trains in plain Pyro as it comes, and as well as in our engine."""

import copy
import inspect
import math
import warnings
from functools import partial

import pyro
import pyro.infer.inspect
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoNormal

from pgm_expr import zoo
from pgm_expr.inference import (
    IWAE,
    Enum,
    MeanField,
    Plan,
    Renyi,
    Trace,
    fit,
    load_tensors,
    save_tensors,
)

CELLS, GENES, PARTICLES = 16, 8, 3
DIMS = {"genes": GENES, "batches": 2, "conditions": 3, "labels": 3, "perturbations": 4}
SMALL = {"latent": 2, "hidden": 6}
SIZES = {
    "hierarchical": {"latent_type": 2, "latent_state": 2, "latent_technical": 2, "hidden": 6},
    "linear": {"latent": 2},
}
STORIES = pytest.mark.parametrize("name", zoo.STORIES)
ENUMERATED = {"label", "mixture"}
SHARED = {"bayesian_vae", "shift"}  # sites that all cells share
CLASSIFIER = {"head.weight", "head.bias"}  # learned by the auxiliary term of `Enum` alone


def minibatch(cells=CELLS, seed=0):
    """Every entry that a minibatch may hold, of a few types of cells."""
    noise = torch.Generator().manual_seed(seed)
    levels = torch.arange(cells)
    profile = torch.randn(3, GENES, generator=noise)[levels % 3].exp()
    x = torch.poisson(4 * profile, generator=noise)
    x[:, 0] += 1
    return {
        "x": x,
        "library": x.sum(-1, keepdim=True),
        "condition": torch.randn(cells, DIMS["conditions"], generator=noise),
        "batch": levels % DIMS["batches"],
        "label": torch.where(levels % 4 == 0, -1, levels % DIMS["labels"]),
        "perturbation": torch.eye(DIMS["perturbations"])[levels % DIMS["perturbations"]],
        "target": torch.where(levels % 5 == 0, math.nan, levels % 3 - 0.5).unsqueeze(-1),
    }


def given(half, batch):
    """What a model or guide takes of a minibatch."""
    names = inspect.signature(type(half).forward).parameters
    return {name: value for name, value in batch.items() if name in names}


def built(name, story=None, seed=0):
    """A small pair of a story, and the minibatch it takes."""
    batch = minibatch()
    filled = {
        "average": batch["x"].mean(0) / batch["x"].mean(0).sum(),
        "examples": batch["x"],
        "gene_sets": torch.eye(4).repeat_interleave(2, 1),
        "log_library": torch.tensor([3.5, 0.3]),
    }
    torch.manual_seed(seed)
    options = SIZES.get(name, SMALL)
    model, guide = zoo.build(story or zoo.story(name), DIMS | filled, **options)
    return model, guide, given(model, batch)


def classifier(model, guide, **batch):
    """`TraceEnum_ELBO` and the term that teaches a classifier, as a loss of `SVI`."""
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, **batch)
    known = batch["label"] >= 0
    rows = guide.classify(batch["x"])[known].gather(-1, batch["label"][known].unsqueeze(-1))
    return loss - len(batch["x"]) * rows.mean()


def stories(*without):
    return [name for name in zoo.STORIES if name not in {*without}]


NO_KL = [name for name in zoo.STORIES if ("mean-field", name) in zoo.REFUSED]
VECTORS = dict(max_plate_nesting=1, vectorize_particles=True)
LAWS = {  # Pyro's loss, our objective, and the stories that it is for
    "trace": (Trace_ELBO, Trace, stories(*ENUMERATED)),
    "mean-field": (TraceMeanField_ELBO, MeanField, stories(*ENUMERATED, *NO_KL)),
    "renyi": (
        partial(RenyiELBO, 0.5, PARTICLES, **VECTORS),
        partial(Renyi, alpha=0.5, particles=PARTICLES),
        stories(*ENUMERATED, *SHARED),
    ),
    "iwae": (
        partial(RenyiELBO, 0, PARTICLES, **VECTORS),
        partial(IWAE, particles=PARTICLES),
        stories(*ENUMERATED, *SHARED),
    ),
    "enum": (partial(TraceEnum_ELBO, max_plate_nesting=1), Trace, sorted(ENUMERATED)),
    "classifier": (lambda: classifier, Enum, ["label"]),
}
CASES = [(name, law) for law in LAWS for name in LAWS[law][2]]
CLOSED = {("shift", "mean-field")}  # Pyro takes a shared site in closed form, we at its draw
QUICK = {("vae", "trace"), ("bayesian_vae", "mean-field"), ("label", "classifier")}


def parameters(model, guide):
    return {
        f"{half}.{name}": parameter
        for half, module in (("model", model), ("guide", guide))
        for name, parameter in module.named_parameters()
    }


def copies(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def untaught(name, law):
    """Parameters that a loss does not reach."""
    return {f"guide.{each}" for each in CLASSIFIER} if (name, law) == ("label", "enum") else set()


def steps_like_ours(name, law, pair):
    """One step of SVI by gradient descent of rate 1 moves every parameter by our gradient."""
    model, guide, batch = pair
    theirs, ours, _ = LAWS[law]
    objective = ours(model, guide, cells=CELLS)
    torch.manual_seed(5)
    loss = objective(**batch)
    loss.backward()
    moving = parameters(model, guide)
    gradients = {n: CELLS * p.grad for n, p in moving.items() if p.grad is not None}
    before = copies(moving)
    objective.zero_grad()
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 1.0}), theirs())
    torch.manual_seed(5)
    assert svi.step(**batch) == pytest.approx(CELLS * loss.item(), rel=1e-4)
    moved = {name: before[name] - p.detach() for name, p in moving.items()}
    assert {name for name, by in moved.items() if not by.any()} == untaught(name, law)
    for each, gradient in gradients.items():
        largest = gradient.abs().max()
        assert torch.allclose(moved[each], gradient, rtol=1e-3, atol=1e-4 * (1 + largest)), each


@pytest.mark.parametrize("name, law", [case for case in CASES if case not in CLOSED])
def test_a_step_of_pyro_is_a_step_of_ours(name, law):
    steps_like_ours(name, law, built(name))


@STORIES
def test_a_step_of_a_new_file_is_a_step_of_ours(name, tmp_path):
    """What `pgm-expr new` writes is Pyro's own, too."""
    zoo.new(tmp_path / "mine.py", name)
    story = zoo.load_story(tmp_path / "mine.py")
    steps_like_ours(name, "enum" if name in ENUMERATED else "trace", built(name, story))


def drop(losses):
    """From the first loss to the mean of the last ten."""
    return losses[0] - sum(losses[-10:]) / 10


def trained(name, law, steps=200, rate=1e-2):
    """Drops of the loss, nats a cell, by Pyro and by our engine from the same start."""
    model, guide, batch = built(name)
    theirs, ours, _ = LAWS[law]
    twins = copy.deepcopy((model, guide))
    objective = ours(*twins, cells=CELLS)
    plan = Plan(steps, CELLS, rate, weight_decay=0.0, warmup_epochs=0, patience=steps)
    rows = fit(objective, lambda seed: [batch], None, plan)
    engine = drop([row["train"] for row in rows])
    before = copies(parameters(model, guide))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": rate}), theirs())
    losses = []
    with pyro.validation_enabled(False):
        for step in range(steps):
            torch.manual_seed(step)  # the noise of our engine's epoch
            losses.append(svi.step(**batch) / CELLS)
    after = parameters(model, guide)
    still = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert still == untaught(name, law)
    return drop(losses), engine


@pytest.mark.parametrize(
    "name, law",
    [
        pytest.param(*case, id="-".join(case), marks=() if case in QUICK else pytest.mark.slow)
        for case in CASES
    ],
)
def test_pyro_trains_as_well_as_our_engine(name, law):
    theirs, ours = trained(name, law)
    assert ours > 1 and theirs >= 0.9 * ours


def test_an_autoguide_of_pyro_trains_the_decoder():
    """`AutoNormal` has a posterior of its own for each cell: no amortisation, no worse bound."""
    _, engine = trained("linear", "trace")
    pyro.clear_param_store()
    model, _, batch = built("linear")
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    before = copies(dict(model.named_parameters()))
    torch.manual_seed(0)
    losses = [svi.step(**batch) / CELLS for _ in range(200)]
    assert drop(losses) >= 0.9 * engine
    assert not any(torch.equal(before[n], p) for n, p in model.named_parameters())


GRAPH = {  # what each variable of a story depends on
    "vae": {"z": [], "x": ["z"]},
    "latent_library": {"z": [], "log_library": [], "x": ["z", "log_library"]},
    "bayesian_vae": {"log_dispersion": [], "z": [], "x": ["log_dispersion", "z"]},
    "linear": {"z": [], "x": ["z"]},
    "cvae": {"z": [], "x": ["z"]},
    "conditional_prior": {"z": [], "x": ["z"]},
    "label": {"y": [], "z": ["y"], "label": ["y"], "x": ["z"]},
    "classify": {"z": [], "label": ["z"], "x": ["z"]},
    "regress": {"z": [], "target": ["z"], "x": ["z"]},
    "hierarchical": {
        "z_type": [],
        "z_state": [],
        "z_technical": [],
        "x": ["z_type", "z_state", "z_technical"],
    },
    "ladder": {"z_program": [], "z_pathway": ["z_program"], "x": ["z_pathway"]},
    "mixture": {"regime": [], "z": [], "x": ["regime", "z"]},
    "shift": {"effects": [], "z": [], "x": ["effects", "z"]},
    "offset": {"z": [], "x": ["z"]},
}


@STORIES
def test_pyro_finds_the_graph_of_a_story(name):
    """As `pyro.render_model` draws it."""
    model, _, batch = built(name)
    assert pyro.infer.inspect.get_model_relations(model, (), batch)["sample_sample"] == GRAPH[name]


LIKELIHOODS = [part for part in zoo.PARTS["likelihood"] if part != "nb-batch"]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_pyro_finds_the_graph_whatever_the_likelihood(likelihood):
    torch.manual_seed(0)
    model, _ = zoo.build(zoo.story("vae"), DIMS, **SMALL, likelihood=likelihood)
    batch = given(model, minibatch())
    assert (
        pyro.infer.inspect.get_model_relations(model, (), batch)["sample_sample"] == GRAPH["vae"]
    )


def test_pyro_draws_a_story():
    pytest.importorskip("graphviz")
    model, _, batch = built("vae")
    drawn = pyro.render_model(model, (), batch, render_params=True, render_distributions=True)
    assert "z -> x" in drawn.source and "decode" in drawn.source


JIT = {Trace_ELBO: JitTrace_ELBO, TraceEnum_ELBO: JitTraceEnum_ELBO}
COMPILED = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning"
)


def compiled(name):
    """Pyro's losses of a story, plain and compiled."""
    kind = TraceEnum_ELBO if name in ENUMERATED else Trace_ELBO
    options = {"max_plate_nesting": 1}
    return kind(**options), JIT[kind](**options, ignore_jit_warnings=True)


def certain(guide):
    """Standard deviations of 1e-4, so that the noise, drawn otherwise when compiled, is small."""
    for name, parameter in guide.named_parameters():
        if "scale" in name:
            end = name.rpartition(".")[2]
            parameter.data.fill_({"bias": -30.0, "weight": 0.0}.get(end, math.log(1e-4)))


@COMPILED
@pytest.mark.parametrize("name", ["vae", "bayesian_vae"])
def test_a_compiled_step_is_the_step(name, float64):
    moves = []
    for loss in compiled(name):
        pyro.clear_param_store()
        model, guide, _ = built(name)
        certain(guide)
        before = copies(parameters(model.eval(), guide.eval()))
        svi = SVI(model, guide, pyro.optim.SGD({"lr": 1e-3}), loss)
        with pyro.validation_enabled(False):
            for seed in range(3):  # counts that are 0 elsewhere than those that were compiled
                svi.step(**given(model, minibatch(seed=seed)))
        moves.append({n: p.detach() - before[n] for n, p in parameters(model, guide).items()})
    for each, move in moves[0].items():
        if "scale" not in each:
            assert (move - moves[1][each]).abs().max() < 1e-2 * move.abs().max(), each


# Mixtures of Pyro and torch compare shapes, of which a tracer warns.
THEIRS = {"zinb", "nb-mixture", "gaussian-mixture", "gaussian-low-rank"}


@COMPILED
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_traced_likelihood_serves_other_counts(likelihood):
    """Nothing in the graph depends on the counts it was traced with, nor on the gradient mode."""
    model, _ = zoo.build(zoo.story("vae"), DIMS, **SMALL, likelihood=likelihood)
    part = model.likelihood.requires_grad_(False)  # constants of the graph
    first, *others = (minibatch(seed=seed)["x"] for seed in range(3))
    others.append(torch.zeros_like(first).index_fill(1, torch.tensor(3), 30.0))

    def log_prob(x, eta):
        return part(eta, x.sum(-1, keepdim=True)).log_prob(x)

    eta = torch.randn(CELLS, GENES)
    with pyro.validation_enabled(False), torch.no_grad(), warnings.catch_warnings():
        if likelihood in THEIRS:
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(log_prob, (first, eta))
    for x in others:
        slopes = []
        for function in (traced, log_prob):
            with pyro.validation_enabled(False):
                value = function(x, eta.requires_grad_())
            slopes.append((value.detach(), *torch.autograd.grad(value.sum(), eta)))
        for mine, expected in zip(*slopes, strict=True):
            assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@COMPILED
@STORIES
def test_a_compiled_story_learns(name):
    model, guide, batch = built(name)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), compiled(name)[1])
    before = copies(parameters(model, guide))
    with pyro.validation_enabled(False):
        losses = [svi.step(**batch) / CELLS for _ in range(100)]
    after = parameters(model, guide)
    still = {each for each, value in before.items() if torch.equal(value, after[each])}
    assert drop(losses) > 1 and still == untaught(name, "enum")


@STORIES
@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
def test_predictive_draws_counts(name, parallel):
    model, guide, batch = built(name)
    model.eval(), guide.eval()
    draw = dict(num_samples=4, parallel=parallel)
    posterior = Predictive(guide, **draw)(**batch)
    without = {key: value for key, value in batch.items() if key != "x"}
    for counts in (
        Predictive(model, **draw)(**without)["x"],
        Predictive(model, posterior, **draw)(**without)["x"],
    ):
        assert counts.shape == (4, CELLS, GENES)
        assert (counts >= 0).all() and torch.equal(counts, counts.round())
        assert not torch.equal(counts[0], counts[1])


def test_an_intervention_sets_a_state():
    model, _, batch = built("vae")
    model.eval()
    z = torch.randn(CELLS, 2)
    done = poutine.do(model, data={"z": z})
    x = poutine.trace(done).get_trace(batch["library"]).nodes["x"]["fn"]
    expected = model.likelihood(model.decode(z), batch["library"])
    assert torch.allclose(x.mean, expected.mean)


def test_nuts_finds_the_posterior_of_a_small_linear_story():
    """Moments of one latent dimension, by quadrature: five standard errors of 50 free draws."""
    batch = {name: value[:2] for name, value in minibatch().items() if name in ("x", "library")}
    torch.manual_seed(1)
    model, _ = zoo.build(zoo.story("linear"), DIMS, latent=1)
    grid = torch.linspace(-6, 6, 2001).view(-1, 1, 1)
    with torch.no_grad():
        counts = model.likelihood(model.decode(grid), batch["library"])
        density = model.prior().log_prob(grid) + counts.log_prob(batch["x"])  # (M, N)
    weights = density.softmax(0).unsqueeze(-1)
    mean = (weights * grid).sum(0)
    deviation = (weights * (grid - mean).square()).sum(0).sqrt()
    torch.manual_seed(0)
    chain = MCMC(NUTS(model), num_samples=100, warmup_steps=50, disable_progbar=True)
    chain.run(**batch)
    z = chain.get_samples()["z"]  # (100, N, 1)
    assert ((z.mean(0) - mean).abs() < 5 * deviation / 50**0.5).all()
    assert ((z.std(0) / deviation - 1).abs() < 5 / 100**0.5).all()


def test_a_pair_trained_by_pyro_is_saved_copied_and_read_back(tmp_path):
    model, guide, batch = built("bayesian_vae")
    names = [list(half.state_dict()) for half in (model, guide)]
    SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO()).step(**batch)
    assert names == [list(half.state_dict()) for half in (model, guide)]
    twins = copy.deepcopy((model, guide))
    save_tensors(tmp_path / "guide", guide.state_dict())
    other = built("bayesian_vae", seed=1)[1]
    other.load_state_dict(load_tensors(tmp_path / "guide")[0])
    draws = []
    for half in (guide, twins[1], other):
        torch.manual_seed(0)
        trace = poutine.trace(half.eval()).get_trace(**batch)
        draws.append([trace.nodes[site]["value"] for site in ("log_dispersion", "z")])
    for each in zip(*draws, strict=True):
        assert torch.equal(each[0], each[1]) and torch.equal(each[0], each[2])


@STORIES
def test_a_story_file_of_plain_modules_goes_on_in_our_engine(name, tmp_path):
    """As `pgm-expr new` wrote it up to version 0.5.0: the same weights by name, and figures."""
    zoo.new(tmp_path / "mine.py", name)
    text = (tmp_path / "mine.py").read_text()
    for half in (zoo.story(name).model, zoo.story(name).guide):
        text = text.replace(
            f"class {half.__name__}(PyroModule):", f"class {half.__name__}(nn.Module):"
        )
        text = text.replace(f'super().__init__("{half.__name__}")', "super().__init__()")
    assert "(PyroModule)" not in text
    (tmp_path / "plain.py").write_text(text.replace("from pyro.nn import PyroModule\n", ""))
    states, losses = [], []
    for file in ("mine.py", "plain.py"):
        story = zoo.load_story(tmp_path / file)
        model, guide, batch = built(name, story)
        objective = story.objective(model, guide, cells=CELLS)
        rows = fit(objective, lambda seed: [batch], None, Plan(3, CELLS))  # noqa: B023
        losses.append([row["train"] for row in rows])
        states.append(objective.state_dict())
    assert losses[0] == losses[1] and states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not dict(pyro.get_param_store())
