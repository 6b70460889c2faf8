"""Figures of a fitted story: held-out likelihood, latent use, probes, draws, beside baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..inference import ELBO, Objective, latent_use, seeded
from ..predict import Batch, draw_posterior, draw_prior, withheld
from .bounds import held_out as heldout
from .bounds.baselines import fit_baseline
from .bounds.scores import Batches
from .counts.statistics import compare_counts
from .guide.sites import has_states
from .latent.probes import pca, probe

COUNTS = "counts given library"
Arrays = tuple[np.ndarray, np.ndarray]  # of training cells and of held-out ones


def judge(
    model: nn.Module,
    guide: nn.Module,
    train: Batches,
    test: Batches,
    *,
    labels: int = 0,
    draws: tuple[int, int] = (500, 2000),
    objective: Callable[..., Objective] = ELBO,
    measure: str = COUNTS,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Judge a story on held-out cells, beside baselines.

    The story sees no label and no target, see `predict.withheld`; baselines and probes do.

    Parameters
    ----------
    model, guide
        A fitted pair.
    train, test
        Functions that return minibatches of the training and of the held-out cells. Baselines,
        PCA and probes are fitted to the training cells.
    labels
        Number of labels; 0 where the data have none.
    draws
        Numbers K of draws of the importance-weighted bound.
    objective
        Bound of the story, for ELBO and KL.
    measure
        What the story's log p is a probability of. Baselines are of counts given the library, so
        beside another measure they are left out; detection is compared as 0 and 1.

    Returns
    -------
    metrics
        Numbers by name, likelihoods in nats per cell; `_se` is the standard error over cells,
        `_mcse` that of the draws, for these cells. None where labels are needed and missing;
        a story without a latent state of cells has a KL of 0 and no probe.
    table
        One row per model: held-out log p, the story's minus it with its standard error, paired
        over cells, and macro-F1 of a probe.

    Examples
    --------
    >>> from pgm_expr.guides import VAEGuide
    >>> from pgm_expr.models import VAE
    >>> pair = VAE(genes=5, latent=2), VAEGuide(genes=5, latent=2)
    >>> x = torch.arange(1.0, 301.0).view(60, 5) % 7
    >>> cells = {"x": x, "library": x.sum(-1, keepdim=True)}
    >>> metrics, table = judge(*pair, lambda: [cells], lambda: [cells], draws=(10, 20))
    >>> [row["model"] for row in table]
    ['story', 'gene_nb']
    >>> metrics["heldout_elbo"] < metrics["heldout_iwae"]
    True
    """
    bounds = heldout.iwae_bounds(model, guide, withheld(test()), draws)
    (coarse, coarse_mcse), (fine, fine_mcse) = (bounds[k] for k in draws)
    elbo = heldout.precise_elbo(model, guide, lambda: withheld(test()), objective)
    bound = objective(model, guide, cells=math.inf)
    states = has_states(model, guide, next(iter(withheld(test()))))
    use = latent_use(bound, withheld(test())) if states else None
    x_train, x_test = _counts(train(), measure), _counts(test(), measure)
    y_train, y_test = _labels(train()), _labels(test())
    probes: dict[str, float] = {}
    if use and y_train is not None and y_test is not None and labels:
        latents = latent_use(bound, withheld(train())).loc.cpu().numpy(), use.loc.cpu().numpy()
        codes = y_train.numpy(), y_test.numpy()
        probes = _probes(latents, (x_train.numpy(), x_test.numpy()), codes)
    metrics = {
        "measure": measure,
        "heldout_elbo": elbo.value.mean().item(),
        "heldout_elbo_mcse": elbo.mcse,
        "heldout_iwae": coarse.mean().item(),
        "heldout_iwae_se": heldout.standard_error(coarse),
        "heldout_iwae_mcse": coarse_mcse,
        f"heldout_iwae_{draws[1]}": fine.mean().item(),
        f"heldout_iwae_{draws[1]}_mcse": fine_mcse,
        "kl": use.kl.sum().item() if use else 0.0,
        "kl_per_dimension": use.kl.tolist() if use else [],
        "active_units": use.active_units if use else 0,
        "collapse": use.verdict() if use else None,
        "probe_macro_f1": probes.get("story"),
        "pca_probe_macro_f1": probes.get("pca"),
        **_draw_figures(model, guide, test, x_train, x_test),
    }
    rivals = _rivals(x_train, x_test, y_train, y_test, labels) if measure == COUNTS else {}
    metrics |= {f"baseline_{name}": value.mean().item() for name, value in rivals.items()}
    return metrics, _table(coarse, rivals, probes, f"iwae-{draws[0]}")


def _counts(batches: Iterable[Batch], measure: str) -> Tensor:
    x = torch.cat([batch["x"].cpu() for batch in batches])
    return (x > 0).float() if measure == "detection" else x


def _labels(batches: Iterable[Batch]) -> Tensor | None:
    found = [batch["label"].cpu() for batch in batches if "label" in batch]
    return torch.cat(found) if found else None


def _probes(latents: Arrays, counts: Arrays, labels: Arrays) -> dict[str, float]:
    """Macro-F1 of a logistic probe of the latent means, and of as many principal components."""
    size = min(latents[0].shape[1], len(labels[0]) - 1)
    components = pca(*counts, size=size)
    return {
        name: probe(before, labels[0], after, labels[1])["macro_f1"]
        for name, (before, after) in {"story": latents, "pca": components}.items()
    }


def _draw_figures(
    model: nn.Module, guide: nn.Module, test: Batches, x_train: Tensor, x_test: Tensor
) -> dict[str, float]:
    """Gene statistics of draws at the held-out libraries: from the prior, and from q(z | x)."""
    with seeded(heldout.SEED):
        from_prior = draw_prior(model, withheld(test())).cpu().numpy()
        from_posterior = draw_posterior(model, guide, withheld(test())).cpu().numpy()
    some = slice(None, None, -(-len(x_test) // len(x_train)))  # the floor needs as many real cells
    real = x_test[some].numpy(), x_train.numpy()
    figures = compare_counts(from_prior[some], *real)
    predictive = compare_counts(from_posterior[some], *real)
    kept = ("zero_rate_mae", "mean_log_ratio", "variance_log_ratio")
    return figures | {f"posterior_{name}": predictive[name] for name in kept}


def _rivals(
    x_train: Tensor,
    x_test: Tensor,
    y_train: Tensor | None,
    y_test: Tensor | None,
    labels: int,
) -> dict[str, Tensor]:
    """log p(x | library) of each held-out cell under the baselines."""
    rivals = {"gene_nb": fit_baseline(x_train).log_prob(x_test)}
    if labels:
        rivals["label_nb"] = fit_baseline(x_train, y_train, labels).log_prob(x_test, y_test)
    return rivals


def _table(
    story: Tensor, rivals: Mapping[str, Tensor], probes: Mapping[str, float], measure: str
) -> list[dict[str, Any]]:
    rows = [{"model": "story", "measure": measure, "log_p": story.mean().item()}]
    for name, value in rivals.items():
        gap = story.cpu() - value
        rows.append(
            {
                "model": name,
                "measure": "exact",
                "log_p": value.mean().item(),
                "story_minus": gap.mean().item(),
                "paired_se": heldout.standard_error(gap),
            }
        )
    if probes:
        rows[0]["probe_macro_f1"] = probes["story"]
        rows.append({"model": "pca", "probe_macro_f1": probes["pca"]})
    return rows
