r"""Dispersions of genes, shrunk to their trend.

    log phi_g ~ StudentT(4, trend(log mean_g), tau)        var = m + phi m^2

For each gene, l_g(phi) is the likelihood with intercepts and effect integrated out by Laplace's
method (as Cox and Reid adjust it), on a grid of log phi. Trend (a cubic in log mean) and tau
maximise the marginal likelihood of all genes, sum_g log int exp(l_g(phi)) p(phi) dphi. The heavy
tail of the prior leaves a gene that is far from the trend where its counts put it.

Cox and Reid, JRSS B 1987, https://doi.org/10.1111/j.2517-6161.1987.tb01422.x
McCarthy et al., Nucleic Acids Research 2012, https://doi.org/10.1093/nar/gks042
Love et al., Genome Biology 2014, https://doi.org/10.1186/s13059-014-0550-8
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.distributions import StudentT
from torch.nn.functional import one_hot

from .profiles import Profiles, Rows

COARSE = torch.arange(-9.0, 4.01, 0.5, dtype=torch.double)  # log phi at which curves are computed
FINE = torch.linspace(-9.0, 4.0, 521, dtype=torch.double)  # ... and interpolated
DEGREES = 4.0  # of freedom of the prior
RIDGE = 1e-2  # precision of intercepts and effects: keeps those of absent genes finite
STEPS, LIMIT, CLOSE = 30, 3.0, 1e-6  # of Newton's method: number, size, convergence
GENES = 250  # held at a time


class Estimate(NamedTuple):
    """Maximum of the likelihood at given dispersions.

    Intercepts (B, G, K), effects and their standard errors (G, K), natural log, and the log
    marginal likelihood of the dispersions (G, K).
    """

    intercept: Tensor
    effect: Tensor
    se: Tensor
    marginal: Tensor


class Dispersion(NamedTuple):
    """Posterior of log phi: nodes (G, K) with their log prior, mean and trend (G,), and tau."""

    nodes: Tensor
    log_prior: Tensor
    mean: Tensor
    trend: Tensor
    tau: float

    def genes(self, at: Tensor) -> Dispersion:
        """The same in some genes."""
        nodes, log_prior, mean, trend, tau = self
        return Dispersion(nodes[at], log_prior[at], mean[at], trend[at], tau)


def estimate(profiles: Profiles, log_phi: Tensor) -> Estimate:
    """Maximise the likelihood over intercepts and effects at dispersions (G, K), all at once.

    The log likelihood is concave in both; Newton's steps use that its Hessian is diagonal but for
    the effect.
    """
    rows, theta = profiles.rows, (-log_phi).exp()
    block, side = one_hot(rows.block, rows.blocks).T.double(), rows.group.double().view(-1, 1, 1)
    x, number = rows.total.unsqueeze(-1), rows.number.view(-1, 1, 1)
    exposure = rows.number.unsqueeze(-1) * rows.log_size.exp()
    start = ((block @ rows.total + 0.5) / (block @ exposure)).log().unsqueeze(-1)
    alpha, beta = start.expand(-1, -1, log_phi.shape[1]), torch.zeros_like(log_phi)
    for _ in range(STEPS):
        share = 1 / (1 + theta * (-_eta(rows, alpha, beta)).exp())  # m / (theta + m)
        expected = (x + number * theta) * share
        curvature = expected * (1 - share)
        slope = torch.einsum("br,rgk->bgk", block, x - expected) - RIDGE * (alpha - start)
        diagonal = torch.einsum("br,rgk->bgk", block, curvature) + RIDGE
        cross = torch.einsum("br,rgk->bgk", block, curvature * side)
        information = (curvature * side).sum(0) + RIDGE - (cross**2 / diagonal).sum(0)
        rest = ((x - expected) * side).sum(0) - RIDGE * beta - (cross * slope / diagonal).sum(0)
        step = (rest / information).clamp(-LIMIT, LIMIT)
        change = ((slope - cross * step) / diagonal).clamp(-LIMIT, LIMIT)
        alpha, beta = alpha + change, beta + step
        if max(step.abs().max(), change.abs().max()) < CLOSE:
            break
    eta = _eta(rows, alpha, beta)
    value = (x * eta - (x + number * theta) * torch.logaddexp(-log_phi, eta)).sum(0)
    laplace = value - 0.5 * (diagonal.log().sum(0) + information.log())
    return Estimate(alpha, beta, information.rsqrt(), laplace + profiles.constant(log_phi))


def _eta(rows: Rows, alpha: Tensor, beta: Tensor) -> Tensor:
    """Log means (R, G, K)."""
    return rows.log_size.unsqueeze(-1) + alpha[rows.block] + beta * rows.group.view(-1, 1, 1)


def dispersions(profiles: Profiles, *, nodes: int = 7, span: float = 2.6) -> Dispersion:
    """Fit the trend, and place nodes over the posterior of each gene.

    Parameters
    ----------
    profiles
        Counts; each gene has some.
    nodes
        Number K of nodes.
    span
        Posterior standard deviations from the mean to the outermost nodes.
    """
    curves = [
        estimate(profiles.genes(at), COARSE.expand(len(at), -1)).marginal
        for at in np.array_split(np.arange(profiles.x.shape[1]), -(-profiles.x.shape[1] // GENES))
    ]
    spline = CubicSpline(COARSE.numpy(), torch.cat(curves).numpy(), axis=1)
    fine = torch.as_tensor(spline(FINE.numpy()))
    mean = torch.as_tensor(np.asarray(profiles.x.mean(0)), dtype=torch.double)
    trend, tau = _trend((mean + 1e-3).log(), fine - fine.amax(-1, keepdim=True))
    prior = StudentT(DEGREES, trend.unsqueeze(-1), tau)
    posterior = (fine + prior.log_prob(FINE)).softmax(-1)
    centre = posterior @ FINE
    sd = (posterior @ FINE**2 - centre**2).clamp(min=1e-4).sqrt()
    spread = torch.linspace(-span, span, nodes, dtype=torch.double)
    at = centre.unsqueeze(-1) + sd.unsqueeze(-1) * spread
    return Dispersion(at, prior.log_prob(at), centre, trend, float(tau))


def _trend(log_mean: Tensor, curves: Tensor) -> tuple[Tensor, Tensor]:
    """Trend (G,) and tau that maximise the marginal likelihood, under weak priors."""
    scaled = (log_mean - log_mean.mean()) / (log_mean.std() + CLOSE)
    powers = torch.arange(min(3, len(log_mean) // 50) + 1)
    basis = scaled.unsqueeze(-1) ** powers  # (G, P)
    weights = torch.zeros(len(powers), dtype=torch.double)
    weights[0] = FINE[curves.sum(0).argmax()]
    log_tau = torch.tensor(-0.7, dtype=torch.double)
    found = [weights.requires_grad_(), log_tau.requires_grad_()]
    optimizer = torch.optim.LBFGS(found, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        prior = StudentT(DEGREES, (basis @ weights).unsqueeze(-1), log_tau.exp())
        fit = (curves + prior.log_prob(FINE)).logsumexp(-1).sum()
        value = 0.5 * ((log_tau + 0.7) ** 2 + (weights[1:] ** 2).sum()) - fit
        value.backward()
        return value

    optimizer.step(loss)
    return (basis @ weights).detach(), log_tau.exp().detach()
