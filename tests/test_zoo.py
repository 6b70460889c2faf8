"""The laws that every row of the zoo keeps.

That model and guide match holds of every combination of parts that can be built. The other laws
are about a story or about a part, which meet in a distribution alone (tests/parts/test_contract),
and are tried once for each.
"""

import importlib
import inspect
import itertools
import math
import pickle
import re

import pytest
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from pgm_expr import zoo
from pgm_expr.inference import (
    ELBO,
    IWAE,
    MeanField,
    Renyi,
    Trace,
    call,
    check_story,
    load_tensors,
    save_tensors,
    sleep,
)

SMALL = dict(latent=3, hidden=8)
ROWS = {
    "vae": SMALL,
    "linear": SMALL,
    "mixture": SMALL,
    "latent_library": SMALL,
    "bayesian_vae": SMALL,
    "offset": SMALL,
    "cvae": SMALL,
    "conditional_prior": SMALL,
    "hierarchical": dict(latent_type=3, latent_state=3, latent_technical=3, hidden=8),
    "ladder": SMALL,
    "label": SMALL,
    "classify": SMALL,
    "shift": SMALL,
    "regress": SMALL,
}

CELLS, GENES = 7, 12
DIMS = {"genes": GENES, "batches": 2, "conditions": 4, "labels": 3, "perturbations": 5}
SETS = torch.eye(6).repeat_interleave(2, 1)  # (S, G) which gene belongs to which set
AVERAGE = torch.arange(1.0, GENES + 1) / sum(range(1, GENES + 1))
KEPT = {  # the share of the library that draws keep: all, of likelihoods of counts but these
    name: 1.0
    for name, made in zoo.PARTS["likelihood"].items()
    if made.measure.startswith("counts") and name not in ("nb-batch", "rounded-gaussian")
}
KEPT["zinb"] = 1 - 1 / (1 + math.exp(3))  # a gate starts at -3


IMPOSSIBLE = {  # with why, tested below
    **{(name, "nb-batch"): "needs batch" for name in ROWS if name != "bayesian_vae"},
    ("bayesian_vae", "vamp"): "borrows the guide",
    ("ladder", "vamp"): "borrows the guide",
    ("cvae", "vamp"): "encodes more than counts",
    ("shift", "vamp"): "encodes more than counts",
    ("offset", "vamp"): "encodes more than counts",
    ("mixture", "vamp"): "has no encode",
    **{
        ("latent_library", part): "library inferred"
        for part, made in zoo.PARTS["likelihood"].items()
        if made.measure != "counts given library"
    },
}


def combinations(name):
    """The story's own parts, every part in their place, and every prior with every posterior."""
    edges = zoo.defaults(zoo.STORIES[name])
    yield {}
    for edge, named in zoo.PARTS.items():
        yield from ({edge: part} for part in named if edge in edges)
    if {"prior", "posterior"} <= edges.keys():
        for prior, posterior in itertools.product(zoo.PARTS["prior"], zoo.PARTS["posterior"]):
            yield {"prior": prior, "posterior": posterior}
    if "likelihood" in edges:
        yield from ({"likelihood": part, "link": "exp"} for part in KEPT)


def possible(name, parts):
    edges = zoo.defaults(zoo.STORIES[name])
    return parts.keys() <= edges.keys() | {"link"} and not any(
        (name, part) in IMPOSSIBLE for part in parts.values()
    )


def once():
    """Each story with its own parts, and each part and link in the first story that takes it."""
    yield from ((name, {}) for name in ROWS)
    each = [{edge: part} for edge, named in zoo.PARTS.items() if edge != "link" for part in named]
    for parts in [*each, *({"likelihood": part, "link": "exp"} for part in KEPT)]:
        yield from [(name, parts) for name in ROWS if possible(name, parts)][:1]


def cases(rows):
    values = [pytest.param(n, parts, id="-".join([n, *parts.values()])) for n, parts in rows]
    return pytest.mark.parametrize("name, parts", values)


ALL = cases((n, parts) for n in ROWS for parts in combinations(n) if possible(n, parts))
ONCE = cases(once())
NAMES = pytest.mark.parametrize("name", ROWS)


def minibatch(cells=CELLS, seed=0):
    """Every key that a minibatch may hold."""
    noise = torch.Generator().manual_seed(seed)
    x = torch.poisson(20 * AVERAGE.expand(cells, -1), noise) + 1

    def levels(kind):
        return torch.arange(cells) % DIMS[kind]

    return {
        "x": x,
        "library": x.sum(-1, keepdim=True),
        "condition": torch.randn(cells, DIMS["conditions"], generator=noise),
        "batch": levels("batches"),
        "label": levels("labels") - (torch.arange(cells) == 0).long(),
        "perturbation": torch.eye(DIMS["perturbations"])[levels("perturbations")],
        "target": torch.randn(cells, 1, generator=noise).where(
            torch.arange(cells)[:, None] > 1, math.nan
        ),
        "time": torch.rand(cells, 1, generator=noise),
        "index": torch.arange(cells),
    }


def built(name, seed=0, **options):
    """A story's pair of the small size, and its objective."""
    torch.manual_seed(seed)
    story = zoo.story(name)
    pair = zoo.build(story, DIMS | {"average": AVERAGE, "gene_sets": SETS}, **ROWS[name] | options)
    return pair, story.objective(*pair, cells=CELLS)


@NAMES
def test_a_guide_learns_from_cells_of_its_story(name):
    (model, guide), _ = built(name)
    halves = [{k: v.clone() for k, v in half.state_dict().items()} for half in (model, guide)]
    losses = [*sleep(model, guide, itertools.repeat(minibatch()), 3)]
    kept, moved = (
        [torch.equal(v, before[k]) for k, v in half.state_dict().items()]
        for half, before in zip((model, guide), halves, strict=True)
    )
    assert all(map(math.isfinite, losses)) and all(kept) and not all(moved)


def test_every_story_has_a_row():
    assert ROWS.keys() == zoo.STORIES.keys()


def test_every_part_has_its_turn():
    """But for the usual link, and the likelihood by batch, which no story here hands a batch."""
    tried = {part for _, parts in once() for part in parts.values()}
    known = {part for named in zoo.PARTS.values() for part in named}
    assert tried == known - {"softmax", "nb-batch"}


@ALL
def test_model_and_guide_match(name, parts):
    (model, guide), objective = built(name, **parts)
    check_story(objective, minibatch())
    signatures = [list(inspect.signature(half.forward).parameters) for half in (model, guide)]
    assert signatures[0] == signatures[1]
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}


def assert_learns(half):
    for name, parameter in half.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@ONCE
def test_every_parameter_learns(name, parts):
    _, objective = built(name, **parts)
    objective.eval()(**minibatch()).backward()
    assert_learns(objective)


@ONCE
def test_the_guide_learns_from_the_counts(name, parts):
    """Without the cost of its latents, what is left is what they say of x."""
    (_, guide), objective = built(name, **parts)
    objective.eval().temper(0.0)(**minibatch()).backward()
    assert_learns(guide)


@ONCE
def test_runs_forward_without_data(name, parts):
    """More cells than were trained on, without counts: draws of the kind the story is about."""
    (model, _), _ = built(name, **parts)
    batch = minibatch(50)
    batch.pop("x")
    with torch.no_grad():
        x = call(model.eval(), batch)
    assert x.shape == (50, GENES) and x.isfinite().all()
    if zoo.takes(zoo.story(name), parts) == "counts":
        assert (x >= 0).all() and torch.equal(x, x.round())


# 4 standard errors of a mean over 4,000 cells: fails for 1 seed in 16,000.
@pytest.mark.parametrize("likelihood", KEPT)
def test_counts_drawn_add_up_to_the_library_on_average(likelihood):
    (model, _), _ = built("vae", likelihood=likelihood)
    batch = minibatch(4000)
    batch.pop("x")
    with torch.no_grad():
        x = call(model.eval(), batch)
    share = (x.sum(-1) / batch["library"].squeeze(-1)).double()
    assert abs(share.mean() - KEPT[likelihood]) <= 4 * share.std() / 4000**0.5


def first(value, event=0):
    """Of the first cell; the values of an enumerated site are those of any cell."""
    dim = value.dim() - 1 - event
    return value.narrow(dim, 0, 1) if value.shape[dim] == CELLS else value


@ONCE
def test_a_cell_alone_is_the_cell_in_a_batch(name, parts):
    _, objective = built(name, **parts)
    objective.eval()
    whole = minibatch()
    alone = {key: value[:1] for key, value in whole.items()}
    assert objective.per_cell(**alone).shape == (1,)
    assert objective(**alone).isfinite()
    many = {site["name"]: site for site, _ in objective.draw(whole).latents}
    drawn = {name: first(site["value"], site["fn"].event_dim) for name, site in many.items()}
    with poutine.trace() as recorded, poutine.condition(data=drawn):  # each given those before it
        call(objective.guide, alone)
    for name, site in many.items():
        here = recorded.trace.nodes[name]["fn"].log_prob(drawn[name])
        assert torch.allclose(here, first(site["fn"].log_prob(site["value"])), atol=1e-4)


@ONCE
def test_saved_weights_give_the_same_loss(name, parts, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickled")

    for module, verbs in ((pickle, ("dump", "dumps", "load", "loads")), (torch, ("save", "load"))):
        for verb in verbs:
            monkeypatch.setattr(module, verb, refuse)
    losses, path = [], tmp_path / "weights.safetensors"
    objectives = [built(name, seed, **parts)[1].eval() for seed in (1, 2)]
    save_tensors(path, objectives[0].state_dict())
    for after in (False, True):
        if after:
            objectives[1].load_state_dict(load_tensors(path)[0])
        for objective in objectives:
            torch.manual_seed(0)
            losses.append(objective(**minibatch()).item())
    assert losses[0] == losses[2] == losses[3] != losses[1]


def documented(half):
    """The rows of the table of sites in the docstring of a half's module."""
    doc = importlib.import_module(type(half).__module__).__doc__
    table = re.search(r"^ +site +kind +plate +event\n((?: +\w.*\n)+)", doc, re.M)
    return [re.split(r" {2,}", row.strip()) for row in table[1].splitlines()]


def traced(half, letters):
    """The same rows as Pyro sees them, sizes written as letters."""
    with poutine.trace() as recorded:
        call(half, minibatch())
    for name, site in recorded.trace.nodes.items():
        auxiliary = site["infer"] and site["infer"].get("is_auxiliary")  # of AutoGuides
        if site["type"] == "sample" and not site_is_subsample(site) and not auxiliary:
            kind = "observed" if site["is_observed"] else "latent"
            plates = [frame.name for frame in site["cond_indep_stack"]]
            sizes = [letters[size] for size in site["fn"].event_shape]
            event = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
            yield [name, kind, " ".join(plates) or "-", event]


@NAMES
def test_the_docstring_tells_the_sites(name):
    """In the order of the story: site, kind, plates, event shape."""
    (model, guide), _ = built(name)
    letters = {
        GENES: "G",
        ROWS[name].get("latent", 3): "D",
        DIMS["conditions"]: "C",
        DIMS["perturbations"]: "P",
        len(SETS): "S",
        1: "1",
    }
    for half in (model, guide):
        assert documented(half) == list(traced(half, letters))


@NAMES
def test_a_pair_is_two_pages_of_one_name(name):
    story = zoo.story(name)
    pages = [half.__module__.removeprefix("pgm_expr.") for half in (story.model, story.guide)]
    assert pages == [f"models.{name}", f"guides.{name}"]


@NAMES
@pytest.mark.parametrize("kind", zoo.OBJECTIVES)
def test_every_objective_takes_every_story(name, kind):
    """And what the zoo lists as refused is refused, nothing else."""
    pair, _ = built(name)
    if (kind, name) in zoo.REFUSED:
        assert zoo.REFUSED[kind, name] in zoo.refusal(zoo.story(name), kind, {})
        return
    if kind == "enum" and not hasattr(pair[1], "classify"):
        with pytest.raises(ValueError, match="classify"):
            zoo.objective(kind)(*pair, cells=CELLS)
        return
    objective = zoo.objective(kind)(*pair, cells=CELLS)
    assert objective(**minibatch()).isfinite()
    for modifier in ("temper", "free_bits"):
        if (kind, modifier) in zoo.REFUSED:
            with pytest.raises(ValueError, match=modifier):
                getattr(objective, modifier)(0.5)
        else:
            before = objective.eval().per_cell(**minibatch())
            assert getattr(objective, modifier)(0.5) is objective
            assert objective(**minibatch()).isfinite() and before.shape == (CELLS,)


NAMED = {
    "elbo": (ELBO, 1),
    "trace": (Trace, 1),
    "trace-5": (Trace, 5),
    "mean-field": (MeanField, 1),
    "iwae": (IWAE, 10),
    "iwae-5-dreg": (IWAE, 5),
    "renyi-0.5": (Renyi, 10),
    "renyi-2-7": (Renyi, 7),
}


def test_objectives_by_name():
    pair, _ = built("vae")
    made = {n: zoo.objective(n)(*pair, cells=CELLS) for n in NAMED}
    assert {n: (type(o), o.particles) for n, o in made.items()} == NAMED
    assert made["renyi-0.5"].alpha == 0.5 and made["renyi-2-7"].alpha == 2
    assert [n for n, o in made.items() if getattr(o, "doubly", False)] == ["iwae-5-dreg"]


def test_options_reach_both_halves():
    (model, guide), _ = built(
        "vae", latent=5, hidden=9, decoder_dropout=0.25, encoder_dropout=0.75
    )
    assert [tuple(p.shape) for p in model.decode.parameters()] == [(9, 5), (9,), (12, 9), (12,)]
    assert guide.posterior.loc.weight.shape == (5, 9) and guide.encode[0].out_features == 9
    dropout = [m.p for half in (model, guide) for m in half.modules() if hasattr(m, "p")]
    assert dropout == [0.25, 0.75]
    assert torch.allclose(model.likelihood.log_mean.log_average.exp(), AVERAGE)


@pytest.mark.parametrize("edge", zoo.PARTS)
def test_a_part_by_class_is_the_part_by_name(edge):
    for name, made in zoo.PARTS[edge].items():
        assert zoo.part_name(edge, made) == zoo.part_name(edge, name) == name
        if name == "nb-batch" or edge == "link":
            continue
        (halves, _), (twins, _) = built("vae", **{edge: name}), built("vae", **{edge: made})
        owner = halves.index(next(h for h in halves if hasattr(h, edge)))
        assert type(getattr(halves[owner], edge)) is made is type(getattr(twins[owner], edge))


def test_a_link_is_the_likelihoods():
    for name, made in zoo.PARTS["link"].items():
        (model, _), _ = built("vae", likelihood="zinb", link=name)
        assert type(model.likelihood.log_mean) is made
        assert torch.allclose(model.likelihood.log_mean.log_average.exp(), AVERAGE)


def test_options_reach_parts():
    (model, guide), _ = built("vae", prior="mog", components=7, posterior="low-rank", rank=3)
    assert model.prior.loc.shape == (7, 3)
    assert guide.posterior(torch.zeros(1, 8)).cov_factor.shape == (1, 3, 3)


def test_a_vamp_prior_starts_from_examples_and_borrows_the_guide():
    story, examples = zoo.story("vae"), torch.arange(2.0 * GENES).view(2, GENES)
    dims = DIMS | {"average": AVERAGE, "examples": examples}
    model, guide = zoo.build(story, dims, **ROWS["vae"], prior="vamp", pseudo_inputs=4)
    assert torch.allclose(model.prior.cells.expm1(), examples.repeat(2, 1), atol=0.4)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}


@pytest.mark.parametrize("name, part", IMPOSSIBLE)
def test_what_cannot_be_built_says_why(name, part):
    edge = next(edge for edge, named in zoo.PARTS.items() if part in named)
    with pytest.raises(ValueError, match=IMPOSSIBLE[name, part]):
        built(name, **{edge: part})


class BorrowingGuide(torch.nn.Module):
    """A guide that is built on its model."""

    def __init__(self, model, latent=2):
        super().__init__()
        self._borrowed = (model,)


def test_two_halves_cannot_both_borrow_the_other():
    story = zoo.Story(model=zoo.story("vae").model, guide=BorrowingGuide)
    model, guide = zoo.build(story, DIMS)
    assert guide._borrowed == (model,)
    with pytest.raises(ValueError, match="prior 'vamp' borrows the guide"):
        zoo.build(story, DIMS, prior="vamp")


@NAMES
def test_what_the_data_fill_is_no_option(name):
    story = zoo.story(name)
    assert not zoo.defaults(story).keys() & set(zoo.FROM_DATA)
    with pytest.raises(ValueError, match="unknown option 'genes'"):
        zoo.build(story, DIMS, genes=5)


WRONG = {
    "story": (lambda: zoo.story("vea"), ["unknown story 'vea'", "'vae'"]),
    "option": (lambda: built("vae", latnt=5), ["unknown option 'latnt'", "'latent'"]),
    "part": (lambda: built("vae", likelihood="znb"), ["unknown likelihood 'znb'", "'zinb'"]),
    "foreign part": (lambda: built("vae", prior=torch.nn.Linear), ["unknown prior", "normal"]),
    "part without its argument": (
        lambda: built("vae", likelihood="nb-batch"),
        ["'nb-batch' needs batch", "VAE.forward", "likelihood(eta, library, batch)"],
    ),
    "option of another part": (lambda: built("vae", components=3), ["unknown option"]),
    "unhashable part": (lambda: built("vae", prior=["normal"]), ["unknown prior"]),
    "objective": (lambda: zoo.objective("iwea-10"), ["unknown objective 'iwea", "'iwae'"]),
    "objective without dash": (lambda: zoo.objective("iwae10"), ["'iwae10'", "'iwae'"]),
    "objective without draws": (lambda: zoo.objective("iwae-0"), ["particles", "'0'"]),
    "objective with a word": (lambda: zoo.objective("iwae-x"), ["'iwae-x'", "'iwae'"]),
    "objective with too many": (lambda: zoo.objective("iwae-5-5"), ["iwae-PARTICLES"]),
    "trace has no dreg": (lambda: zoo.objective("trace-dreg"), ["trace-PARTICLES"]),
    "alpha of the ELBO": (lambda: zoo.objective("renyi-1-5"), ["alpha", "trace", "1"]),
    "half a dimension": (lambda: built("vae", latent=2.5), ["latent", "whole number", "2.5"]),
    "a float": (lambda: built("vae", latent=4.0), ["latent", "whole number", "4.0"]),
    "no dimension": (lambda: built("vae", latent=0), ["latent", "whole number", "0"]),
    "endless dimensions": (lambda: built("vae", latent=math.inf), ["latent", "inf"]),
    "text": (lambda: built("vae", hidden="8"), ["hidden", "whole number", "'8'"]),
    "truth": (lambda: built("vae", hidden=True), ["hidden", "whole number", "True"]),
    "a number for a switch": (
        lambda: zoo.check_options(zoo.Story(model=Switched, guide=Own), {"deep": 1}),
        ["option deep must be True or False", "1"],
    ),
    "text for a share": (lambda: built("vae", decoder_dropout="a"), ["decoder_dropout", "'a'"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_unknown_names_and_wrong_options_are_one_line(kind):
    make, words = WRONG[kind]
    with pytest.raises(ValueError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


class Switched(torch.nn.Module):
    """A model with a switch."""

    def __init__(self, deep=False):
        super().__init__()
        self.deep = deep


def test_a_switch_is_an_option():
    story = zoo.Story(model=Switched, guide=Switched)
    assert zoo.build(story, DIMS, deep=True)[0].deep and not zoo.build(story, DIMS)[0].deep


class Own(torch.nn.Module):
    """A model of a user's: takes a size of the data, an option, and a part."""

    def __init__(self, genes, labels, width=2, likelihood=None):
        super().__init__()
        self.sizes, self.likelihood = (genes, labels, width), likelihood


def test_a_story_of_ones_own_is_filled_from_data_and_options():
    story = zoo.Story(model=Own, guide=Own)
    assert zoo.defaults(story) == {"width": 2, "likelihood": None}
    halves = zoo.build(story, DIMS, width=6, likelihood="poisson")
    assert [half.sizes for half in halves] == [(GENES, DIMS["labels"], 6)] * 2
    assert halves[0].likelihood is halves[1].likelihood
