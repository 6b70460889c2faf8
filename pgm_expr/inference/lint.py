"""The linter: what is wrong with a pair or an objective, in words, before the first epoch.

A message is one line and begins with file and line of the user's file, where there is one:

    mine.py, line 41: site 'z' of Mine stands in no plate. Write it under pyro.plate('cells', ...
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro.poutine import Trace
from pyro.util import check_model_guide_match
from torch import Tensor, nn

from .source_lines import Line, Lines, of_attribute, of_error, of_method, prefix, sampled, within
from .tracing import (
    CELLS,
    NoClosedForm,
    NotInBatch,
    is_enumerated,
    log_prob,
    sample_sites,
    trace,
    within_cells,
)

if TYPE_CHECKING:
    from .objective import Objective

UNDER = f"Write it under pyro.plate('{CELLS}', len(library))."
PARALLEL = "Write infer={'enumerate': 'parallel'} in its pyro.sample."
VECTOR = "End a vector's distribution with .to_event(1)."
PLATE = re.compile(r"Shape mismatch inside plate\('(.*)'\) at site .* dim .*, (\d+) vs \d+")


@dataclass(frozen=True)
class Half:
    """A model or guide, run once on a minibatch."""

    name: str
    trace: Trace
    lines: Mapping[str, Line | None]
    cells: int  # in the minibatch

    @property
    def sites(self) -> dict[str, dict]:
        """Its random variables by name."""
        return {site["name"]: site for site in sample_sites(self.trace)}

    def wrong(self, site: str, what: str) -> ValueError:
        """An error about one of its sites."""
        return ValueError(f"{prefix(self.lines.get(site))}site '{site}' of {self.name} {what}")

    def mismatch(self, site: str, what: str) -> ValueError:
        """An error about one of its sites and the other half."""
        where = prefix(self.lines.get(site))
        return ValueError(
            f"{where}model and guide do not match: site '{site}' of {self.name} {what}"
        )


def check_story(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """Run guide, model and objective once with Pyro's validation on.

    Checks supports, plates, shapes and names of sites, and what a user-defined objective returns
    and keeps. Random numbers and parameters are left as they were.

    Parameters
    ----------
    objective
        An objective over a model and a guide.
    batch
        A minibatch.

    Raises
    ------
    ValueError
        Names file, line, half of the pair and site of what is wrong.

    Examples
    --------
    >>> import torch
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.inference import ELBO, check_story
    >>> from pgm_expr.models import VAE
    >>> objective = ELBO(VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2), cells=8)
    >>> batch = {"x": torch.full((8, 5), 0.5), "library": torch.full((8, 1), 2.5)}
    >>> check_story(objective, batch)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: vae.py, line ...: site 'x' of VAE cannot hold its value: ...
    """
    with pyro.validation_enabled(True), torch.random.fork_rng():
        with torch.no_grad():
            _check_pair(objective, batch)
        if type(objective).__module__.split(".")[0] != __package__.split(".")[0]:
            _check_own(objective, batch)


def _check_pair(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    guide = _run(objective.guide, batch, objective.particles)
    for site in guide.sites.values():
        _check_plates(guide, site)
        _check_shape(guide, site, site["fn"].batch_shape)
    _check_discrete(guide)
    _check_parameters(guide, objective)
    model = _run(objective.model, batch, objective.particles, at=guide.trace)
    _check_parameters(model, objective)
    for site in model.sites.values():
        _check_plates(model, site)
        _check_shape(model, site, site["fn"].batch_shape)
        if site["name"] in guide.sites:
            _check_draw(model, guide, site["name"])
    for site in model.sites.values():
        _check_shape(model, site, _log_prob(model, site).shape)
    _check_names(model, guide)
    _check_rest(model, guide)
    if any(map(is_enumerated, guide.sites.values())):
        guide = _run(objective.guide, batch, objective.particles, enumerate=True)
        model = _run(objective.model, batch, objective.particles, at=guide.trace)
    for _ in objective.costs(objective.split(guide.trace, model.trace)):
        pass  # `MeanField` names a pair without a closed form


def _run(
    half: nn.Module,
    batch: Mapping[str, Tensor],
    particles: int,
    at: Trace | None = None,
    enumerate: bool = False,
) -> Half:
    cells = len(next(iter(batch.values())))
    with _in_words(half, cells), Lines(half) as lines:
        recorded = trace(half, batch, particles, at, enumerate)
    return Half(type(half).__name__, recorded, lines.found, cells)


@contextmanager
def _in_words(module: nn.Module, cells: int) -> Iterator[None]:
    """Any exception of a module as one line that names the last line of its own file."""
    try:
        yield
    except NotInBatch as error:
        raise ValueError(f"{prefix(of_method(type(module)))}{error}") from error
    except NoClosedForm:
        raise
    except Exception as error:
        raise ValueError(_words(error, module, cells)) from error


def _words(error: Exception, module: nn.Module, cells: int) -> str:
    owner = type(module)
    where = prefix(of_error(error, owner) or of_method(owner))
    site = sampled(error)
    plate = PLATE.match(str(error))
    if site and plate and plate[1] == CELLS and int(plate[2]) != cells:
        return f"{where}site '{site}' of {owner.__name__} {_wrong_size(int(plate[2]), cells)}"
    if site and plate:
        return (
            f"{where}site '{site}' of {owner.__name__} does not fit plate '{plate[1]}' of "
            f"{plate[2]}: its distribution has more dimensions than its plates. {VECTOR}"
        )
    at_site = f" at site '{site}'" if site else ""
    said = _first_line(error)
    return f"{where}{owner.__name__}.forward raised {type(error).__name__}{at_site}: {said}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "without a word").rstrip(":")


def _wrong_size(size: int, cells: int) -> str:
    return (
        f"stands in plate '{CELLS}' of {size} where the minibatch has {cells} cells. Write "
        f"pyro.plate('{CELLS}', len(library))."
    )


def _check_plates(half: Half, site: Mapping) -> None:
    """The plate of cells, of the right size and nothing else that would weigh its sites."""
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    if CELLS not in frames and (frames or site["is_observed"]):
        inside = f"plate '{next(iter(frames))}', not '{CELLS}'" if frames else "no plate"
        raise half.wrong(site["name"], f"stands in {inside}. {UNDER}")
    size = CELLS in frames and (frames[CELLS].full_size or frames[CELLS].size)
    if size and size != half.cells:
        raise half.wrong(site["name"], _wrong_size(size, half.cells))
    if torch.as_tensor(site["scale"]).ne(1).any():
        raise half.wrong(
            site["name"],
            "is scaled: the objectives weigh cells themselves. Leave out poutine.scale.",
        )
    if CELLS in frames and site["infer"].get("is_auxiliary"):
        raise half.wrong(
            site["name"],
            f"is auxiliary and stands in plate '{CELLS}': its log-probability would be left out. "
            "Sample the model's own site there.",
        )


def _check_discrete(guide: Half) -> None:
    """A discrete latent of a cell is enumerated, alone of its kind, before what depends on it."""
    latents = [site for site in guide.sites.values() if within_cells(site)]
    discrete = [site for site in latents if site["fn"].support.is_discrete]
    for site in discrete:
        if not is_enumerated(site):
            raise guide.wrong(site["name"], "is discrete: drawn, it has no gradient. " + PARALLEL)
        if site is not latents[0]:
            raise guide.wrong(
                site["name"],
                f"is enumerated after '{latents[0]['name']}'. Sample it first, and one of its "
                "kind alone: a cell's cost is averaged over its values.",
            )


def _check_parameters(half: Half, objective: nn.Module) -> None:
    """What is learned belongs to a module: the optimizer finds it there, and so do saved runs."""
    known = {id(parameter) for parameter in objective.parameters()}
    for name in half.trace.param_nodes:
        value: Any = half.trace.nodes[name]["value"]
        parameter = value.unconstrained() if hasattr(value, "unconstrained") else value
        if id(parameter) not in known:
            where = prefix(half.lines.get(name))
            raise ValueError(
                f"{where}pyro.param '{name}' of {half.name} is not trained: no module owns it. "
                f"Write self.{name} = nn.Parameter(...), or PyroParam, in its constructor."
            )


def _check_shape(half: Half, site: Mapping, shape: torch.Size) -> None:
    """One log-probability for each member of the plates, none left over."""
    frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
    sizes = [frame.size for frame in sorted(frames, key=lambda frame: frame.dim)]
    if list(shape) == sizes:
        return
    if not sizes and shape[-1] == half.cells:
        raise half.wrong(
            site["name"],
            f"stands in no plate. {UNDER} If all cells share it, end it with .to_event(1).",
        )
    raise half.wrong(
        site["name"],
        f"has a log-probability of shape {list(shape)} where its plates have {sizes}. {VECTOR}",
    )


def _log_prob(half: Half, site: Mapping) -> Tensor:
    try:
        return log_prob(site)
    except ValueError as error:
        raise half.wrong(site["name"], f"cannot hold its value: {_first_line(error)}") from error


def _check_draw(model: Half, guide: Half, name: str) -> None:
    """A site is drawn for the same cells and in the same shape by both halves."""
    ours, theirs = model.sites[name], guide.sites[name]
    if within_cells(ours) != within_cells(theirs):
        out, inside = (model, guide) if within_cells(theirs) else (guide, model)
        raise out.wrong(name, f"stands in no plate, where {inside.name} has it in one. {UNDER}")
    drawn, taken = (list(site["fn"].event_shape) for site in (theirs, ours))
    if drawn != taken:
        raise guide.mismatch(
            name,
            f"is drawn with shape {drawn} a cell, {model.name} takes {taken}"
            f"{_also(model, name)}. {VECTOR}",
        )


def _check_names(model: Half, guide: Half) -> None:
    """Every latent site of the model is drawn by the guide, and nothing else."""
    wanted = [name for name, site in model.sites.items() if not site["is_observed"]]
    drawn = [name for name, s in guide.sites.items() if not s["infer"].get("is_auxiliary")]
    foreign = [name for name in drawn if name not in wanted]
    lacking = [n for n in wanted if n not in drawn and not _enumerated(model.sites[n])]
    if foreign and lacking:
        raise guide.mismatch(
            foreign[0],
            f"is not latent in {model.name}, whose site '{lacking[0]}'{_also(model, lacking[0])} "
            f"{guide.name} lacks. Give them one name.",
        )
    if foreign:
        known = foreign[0] in model.sites
        why = f"is observed in {model.name}" if known else f"is no site of {model.name}"
        raise guide.mismatch(foreign[0], f"{why}. Drop it from the guide.")
    if lacking:
        raise model.mismatch(
            lacking[0], f"is latent, and {guide.name} lacks it. Sample it there, or observe it."
        )


def _enumerated(site: Mapping) -> bool:
    return site["infer"].get("_enumerate_dim") is not None


def _also(half: Half, site: str) -> str:
    line = half.lines.get(site)
    return f" ({within(line)})" if line else ""


def _check_rest(model: Half, guide: Half) -> None:
    """Pyro's own requirements of a pair."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check_model_guide_match(model.trace, guide.trace)
        except (UserWarning, ValueError, NotImplementedError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"model and guide do not match: {said}") from error


def _check_own(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """A user's objective, tried on a copy: what it returns, and what it keeps from a step."""
    _check_kept(objective)
    cells = len(next(iter(batch.values())))
    with _in_words(objective, cells):
        tried = copy.deepcopy(objective)
        loss = tried(**batch)
    name, where = type(objective).__name__, prefix(of_method(type(objective)))
    if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"{where}{name}.forward must return a tensor of no dimensions with its gradient: got "
            f"{shape}. Return the mean over cells, without .item() or .detach()."
        )
    _check_kept(tried)
    with torch.no_grad(), _in_words(objective, cells):
        bound = tried.per_cell(**batch)
    if bound.shape != (cells,):
        where = prefix(of_method(type(objective), "per_cell"))
        raise ValueError(
            f"{where}{name}.per_cell must return one number a cell, [{cells}]: got "
            f"{list(bound.shape)}."
        )


def _check_kept(objective: Objective) -> None:
    """Nothing an objective holds may freeze in a captured step, or keep its graph alive."""
    own, usual = type(objective), vars(nn.Module())
    held = {name: value for name, value in vars(objective).items() if name not in usual}
    for name, value in (held | dict(objective.named_buffers(recurse=False))).items():
        for one in _each(value):
            if isinstance(one, float):
                raise ValueError(
                    f"{prefix(of_attribute(own, name))}{own.__name__} holds the float "
                    f"{name} = {one:g}, which a captured step would freeze. Write "
                    f"self.register_buffer('{name}', torch.tensor({one:g}), persistent=False)."
                )
            if isinstance(one, Tensor) and one.grad_fn is not None:
                raise ValueError(
                    f"{prefix(of_attribute(own, name, last=True))}{own.__name__}.{name} "
                    "keeps the graph of every step alive. Write .detach() where it is assigned."
                )


def _each(value: object) -> Iterator[object]:
    """A value, or the values of a container."""
    if isinstance(value, Mapping):
        value = list(value.values())
    yield from value if isinstance(value, (list, tuple, set)) else [value]
