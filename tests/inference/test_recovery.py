"""What was simulated is found again."""

import numpy as np
import torch

from pgm_expr.guides import VAEGuide
from pgm_expr.inference.fit import Plan, fit
from pgm_expr.inference.objective import MeanField
from pgm_expr.models import VAE
from pgm_expr.simulate import simulate

TRAINING = 1800


def test_dispersions_of_a_vae():
    """2,000 cells, 100 genes, median 5,000 counts a cell; log theta has sd .5 over genes."""
    truth = simulate(2000, 100, seed=0, latent=3, types=3, median_library=5000.0)
    x = torch.from_numpy(truth.x).float()
    columns = {"x": x, "library": x.sum(-1, keepdim=True)}

    def rows(index):
        return {name: column[index] for name, column in columns.items()}

    def batches(seed):
        order = torch.randperm(TRAINING, generator=torch.Generator().manual_seed(seed))
        return (rows(index) for index in order.split(100))

    torch.manual_seed(0)
    model = VAE(100, x.sum(0) / x.sum(), latent=8, hidden=64, decoder_dropout=0.0)
    guide = VAEGuide(100, latent=8, hidden=64, encoder_dropout=0.0)
    before = model.likelihood.log_dispersion.detach().clone()
    plan = Plan(epochs=60, learning_rate=5e-3, weight_decay=0.1, warmup_epochs=10)
    objective = MeanField(model, guide, cells=TRAINING)
    history = list(fit(objective, batches, lambda: [rows(slice(TRAINING, None))], plan))
    found = model.likelihood.log_dispersion.detach().numpy()
    assert before.std() == 0 and history[-1]["validation"] > history[0]["validation"] + 20
    assert np.corrcoef(found, truth.log_dispersion)[0, 1] > 0.9
    assert abs(np.mean(found - truth.log_dispersion)) < 0.25
