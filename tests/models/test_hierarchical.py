"""The hierarchical story: whose prior is whose, what a label reaches, what is hidden when."""

import numpy as np
import torch
from scipy.stats import norm

from pgm_expr import zoo
from pgm_expr.inference import ELBO
from pgm_expr.parts import Gated, NormalByEffects, NormalByLabel, OneHot

DIMS = {"genes": 6, "labels": 3, "conditions": 2, "batches": 2}


def built():
    torch.manual_seed(0)
    return zoo.build(zoo.story("hierarchical"), DIMS, hidden=8)


def minibatch(**changes):
    x = torch.poisson(torch.full((5, 6), 9.0)) + 1
    levels = dict(label=torch.tensor([0, 1, 2, -1, 0]), batch=torch.tensor([0, 1, 0, 1, 0]))
    library = x.sum(-1, keepdim=True)
    return dict(x=x, library=library, condition=torch.randn(5, 2), **levels) | changes


def priors(model, batch):
    latents = ELBO(model.eval(), built()[1].eval(), cells=5).draw(batch).latents
    return {site["name"]: site["fn"].mean for _, site in latents}


def test_levels_are_columns_and_minus_one_is_none():
    rows = OneHot(3)(torch.tensor([2, -1]), torch.ones(2, 1))
    assert rows.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert OneHot(3)(None, torch.ones(4, 1)).tolist() == [[0, 0, 0]] * 4


def test_labels_are_hidden_in_training_only():
    torch.manual_seed(0)
    labels, part = torch.zeros(4000, dtype=torch.long), OneHot(2, dropout=0.3)
    hidden = 1 - part(labels, torch.ones(4000, 1)).sum(-1).mean()
    assert abs(hidden - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5  # fails for 1 seed in 16,000
    assert part.eval()(labels, torch.ones(4000, 1)).sum() == 4000


def test_nothing_known_is_standard_normal():
    prior = NormalByEffects(0, 3)(torch.zeros(2, 0)).base_dist
    assert (prior.loc == 0).all() and (prior.scale == 1).all()


def test_a_label_not_told_may_be_any():
    torch.manual_seed(0)
    part, z = NormalByLabel(3, 2), torch.randn(4, 2)
    part.logits.data = torch.randn(3)
    scale = 50 ** np.tanh(part.log_scale.detach().numpy() / np.log(50))  # at most 50 from 1
    density = norm.pdf(z[:, None], part.loc.detach(), scale).prod(-1)  # (4, K)
    mixed = np.log(density @ part.logits.detach().softmax(-1).numpy())
    told = torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        assert np.allclose(part(0 * told).log_prob(z), mixed, rtol=1e-5)
        own = part.at(told).sample()
        assert np.allclose(part(told).log_prob(own), part.at(told).log_prob(own), atol=1e-4)


def test_gates_start_open_and_can_shut():
    torch.manual_seed(0)
    part, x, c = Gated(4, 2, 8).eval(), torch.randn(5, 4), torch.eye(2)[[0, 1, 0, 1, 0]]
    plain = part.weights(torch.cat([x, c], -1)).relu()
    assert torch.equal(part(x, c), plain)
    part.gates.data[1] = -1.0
    assert torch.equal(part(x, c), plain * c[:, :1])


def test_each_prior_knows_its_own_column():
    model, _ = built()
    before = priors(model, batch := minibatch())
    moved = dict(label=(batch["label"] + 1) % 3, condition=batch["condition"] + 1)
    moved["batch"] = 1 - batch["batch"]
    sites = dict(label="z_type", condition="z_state", batch="z_technical")
    for key, value in moved.items():
        after = priors(model, batch | {key: value})
        changed = {site for site in after if not torch.equal(after[site], before[site])}
        assert changed == {sites[key]}


def test_a_told_label_costs_nothing_and_a_hidden_one_does():
    model, guide = built()
    objective = ELBO(model.eval(), guide.eval(), cells=5)
    cost = next(iter(objective.costs(objective.draw(minibatch()))))[0].sum(-1)  # (N,)
    assert (cost[[0, 1, 2, 4]].abs() < 1e-5).all() and cost[3] > 0
