"""Stories whose every answer is known in closed form, and small sets of counts."""

import copy
import warnings
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import pgm_expr
from pgm_expr.guides import VAEGuide
from pgm_expr.inference import PosteriorCollapse
from pgm_expr.models import VAE
from pgm_expr.simulate import Scales, simulate

GENES, LATENT = 6, 3


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class PPCA(nn.Module):
    """z ~ N(0, I_D), x ~ N(W z + mu, sigma^2 I): Tipping and Bishop's probabilistic PCA."""

    def __init__(self, genes=GENES, latent=LATENT, sigma=0.7):
        super().__init__()
        self.loadings = nn.Parameter(torch.randn(genes, latent))
        self.mu = nn.Parameter(torch.randn(genes))
        self.log_sigma = nn.Parameter(torch.tensor(sigma).log())

    def forward(self, library, x=None):
        origin = self.loadings.new_zeros(self.loadings.shape[1])
        with pyro.plate("cells", len(library)):
            z = pyro.sample("z", dist.Normal(origin, 1.0).to_event(1))  # (N, D)
            mean = z @ self.loadings.T + self.mu
            return pyro.sample("x", dist.Normal(mean, self.log_sigma.exp()).to_event(1), obs=x)

    def noise(self):
        return torch.eye(len(self.loadings)) * (2 * self.log_sigma).exp()

    def covariance(self):
        return self.loadings @ self.loadings.T + self.noise()

    def evidence(self, x):
        return MultivariateNormal(self.mu, self.covariance()).log_prob(x).detach()  # (N,)

    def precision(self):
        return (
            torch.eye(self.loadings.shape[1])
            + self.loadings.T @ self.loadings / (2 * self.log_sigma).exp()
        )

    def gain(self):
        """The matrix A with posterior mean A (x - mu)."""
        return self.covariance().inverse().mm(self.loadings).T  # (D, G)


class ExactGuide(nn.Module):
    """The posterior of a PPCA, whose parameters stay the model's."""

    def __init__(self, model):
        super().__init__()
        self._borrowed = (model,)

    def forward(self, library, x=None):
        (model,) = self._borrowed
        mean = (x - model.mu) @ model.gain().T
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.MultivariateNormal(mean, precision_matrix=model.precision()))


class DiagonalGuide(nn.Module):
    """z ~ Normal(linear(x), scale^2): holds the best mean-field posterior of a PPCA."""

    def __init__(self, genes=GENES, latent=LATENT):
        super().__init__()
        self.loc, self.log_scale = nn.Linear(genes, latent), nn.Parameter(torch.zeros(latent))

    @torch.no_grad()
    def match(self, model, width=1.0):
        """The exact mean, and the optimal scale times `width`."""
        self.loc.weight.copy_(model.gain())
        self.loc.bias.copy_(-model.gain() @ model.mu)
        self.log_scale.copy_(width * model.precision().diagonal().rsqrt()).log_()
        return self

    def forward(self, library, x=None):
        with pyro.plate("cells", len(library)):
            pyro.sample("z", dist.Normal(self.loc(x), self.log_scale.exp()).to_event(1))


class SharedMean(PPCA):
    """A PPCA whose mean is a site of all cells: mu ~ N(0, I_G), outside the plate."""

    def forward(self, library, x=None):
        origin = torch.zeros_like(self.mu)
        self.mu_drawn = pyro.sample("mu", dist.Normal(origin, 1.0).to_event(1))  # (G,)
        with pyro.plate("cells", len(library)):
            prior = dist.Normal(self.loadings.new_zeros(self.loadings.shape[1]), 1.0)
            z = pyro.sample("z", prior.to_event(1))
            likelihood = dist.Normal(z @ self.loadings.T + self.mu_drawn, self.log_sigma.exp())
            return pyro.sample("x", likelihood.to_event(1), obs=x)

    def evidence(self, x):
        """log p of the whole data, (): all pairs of cells covary through mu."""
        n, g = x.shape
        joint = torch.kron(torch.ones(n, n), torch.eye(g))
        joint = joint + torch.kron(torch.eye(n), self.covariance())
        return MultivariateNormal(torch.zeros(n * g), joint).log_prob(x.flatten()).detach()

    def shared_posterior(self, x):
        inverse = self.covariance().inverse()
        precision = torch.eye(x.shape[1]) + len(x) * inverse
        mean = torch.linalg.solve(precision, inverse @ x.sum(0))
        return MultivariateNormal(mean, precision_matrix=precision)


class SharedMeanGuide(nn.Module):
    """q(mu) is exact or, widened, diagonal; q(z | x, mu) is exact, or diagonal about its mean."""

    def __init__(self, model, everything, exact=True):
        super().__init__()
        self._borrowed, self.exact = (model,), exact
        exactly = model.shared_posterior(everything)
        self.mean, self.tril = exactly.mean.detach(), exactly.scale_tril.detach()

    def forward(self, library, x=None):
        (model,) = self._borrowed
        if self.exact:
            mu = pyro.sample("mu", dist.MultivariateNormal(self.mean, scale_tril=self.tril))
        else:
            scale = 1.5 * self.tril.diagonal()
            mu = pyro.sample("mu", dist.Normal(self.mean, scale).to_event(1))
        mean = (x - mu) @ model.gain().T
        with pyro.plate("cells", len(library)):
            if self.exact:
                q = dist.MultivariateNormal(mean, precision_matrix=model.precision())
            else:
                q = dist.Normal(mean, model.precision().diagonal().rsqrt()).to_event(1)
            pyro.sample("z", q)


@pytest.fixture
def stories():
    return SimpleNamespace(
        PPCA=PPCA,
        ExactGuide=ExactGuide,
        DiagonalGuide=DiagonalGuide,
        SharedMean=SharedMean,
        SharedMeanGuide=SharedMeanGuide,
    )


@pytest.fixture
def ppca(float64):
    """A fixed PPCA with 40 of its own cells, and its posterior's best diagonal guide."""
    torch.manual_seed(0)
    model = PPCA()
    batch = {"library": torch.ones(40, 1)}
    x = model(**batch).detach()
    guide = DiagonalGuide().match(model)
    return SimpleNamespace(model=model, guide=guide, batch=batch | {"x": x}, x=x, cells=40)


@pytest.fixture
def shared(float64):
    """Ten cells in two far groups, which a shared mean can't explain at once."""
    torch.manual_seed(1)
    model = SharedMean(genes=2, latent=1, sigma=0.4)
    x = torch.tensor([[2.0, 1.0], [-2.0, -1.0]]).repeat(5, 1) + 0.1 * torch.randn(10, 2)
    batch = {"library": torch.ones(10, 1), "x": x}
    return SimpleNamespace(model=model, batch=batch, x=x, cells=10)


class CountTable:
    """NB counts of 64 cells and 12 genes, served as `fit` wants them."""

    def __init__(self, cells=64, genes=12, size=16):
        noise = torch.Generator().manual_seed(7)
        rate = torch._standard_gamma(torch.full((cells, genes), 2.0), noise) * 3
        x = torch.poisson(rate, noise)
        x[:, 0] += 1
        self.columns = {"x": x, "library": x.sum(-1, keepdim=True), "index": torch.arange(cells)}
        self.cells, self.genes, self.size = cells, genes, size

    def rows(self, index):
        return {name: column[index] for name, column in self.columns.items()}

    def batches(self, seed):
        order = torch.randperm(self.cells, generator=torch.Generator().manual_seed(seed))
        return (self.rows(index) for index in order.split(self.size))

    def validation(self):
        return (self.rows(index) for index in torch.arange(self.cells).split(32))


@pytest.fixture
def table():
    return CountTable()


@pytest.fixture
def pair():
    """Builds a small VAE and its guide from a seed."""

    def build(seed=0, genes=12):
        torch.manual_seed(seed)
        sizes = dict(latent=2, hidden=8)
        return VAE(genes, **sizes, decoder_dropout=0.2), VAEGuide(genes, **sizes)

    return build


@pytest.fixture
def weights():
    """A copy of a module's state that later training can't change."""
    return lambda module: copy.deepcopy(module.state_dict())


def few_cells():
    """150 cells and 30 genes: two far types, two batches (plates), perturbations, and a dose."""
    kinds = dict(types=2, batches=2, perturbations=2, scales=Scales(type=2.0))
    truth = simulate(150, 30, seed=0, median_library=3000.0, **kinds)
    adata = truth.to_anndata()
    adata.obs["plate"], adata.obs["dose"] = truth.batch + 1, 50 + 10 * truth.z[:, 0]
    return adata


def three_types():
    """500 cells and 40 genes of three types."""
    return simulate(500, 40, seed=0, types=3, median_library=2000.0).to_anndata()


SMALL = dict(latent=3, hidden=16, learning_rate=0.01, weight_decay=0.1, batch_size=32)
TAUGHT = SMALL | dict(epochs=20, warmup_epochs=5)  # enough for the vae to use its states
BRIEF = SMALL | dict(epochs=3)
COVARIATES = dict(categorical_covariate_keys=["type"], continuous_covariate_keys=["dose"])
RUNS = {  # the cells and settings of the runs that tests share; the story's name comes first
    "vae": (few_cells, TAUGHT | dict(labels_key="type", batch_key="batch")),
    "cvae": (few_cells, TAUGHT | dict(batch_key="plate") | COVARIATES),
    "label": (few_cells, TAUGHT | dict(labels_key="type", batch_key="plate")),
    "classify": (few_cells, BRIEF | dict(labels_key="type")),
    "regress": (few_cells, BRIEF | dict(target_key="dose", labels_key="type")),
    "shift": (few_cells, BRIEF | dict(perturbation_key="perturbation", control="control")),
    "hierarchical": (few_cells, dict(labels_key="type", batch_key="plate", epochs=3)),
    "vae-types": (three_types, dict(latent=2, hidden=16, labels_key="type", epochs=40)),
}


class Fitted:
    """Finished runs of `RUNS`, each fitted once a process, when a test first asks for it."""

    def __init__(self, place):
        self.place = place

    def data(self, name):
        """The file of the cells that a run was fitted to."""
        made, _ = RUNS[name]
        path = self.place / f"{made.__name__}.h5ad"
        if not path.exists():
            made().write_h5ad(path)
        return path

    def folder(self, name):
        """The folder of a run, to be read and copied, never written to."""
        _, settings = RUNS[name]
        path = self.place / name
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PosteriorCollapse)  # of few epochs
                story = name.partition("-")[0]
                pgm_expr.fit(self.data(name), story, out=path, progress=False, **settings)
        return path

    def __call__(self, name):
        """A run that is the test's own: read from its folder, with the data of the fit at hand."""
        run = pgm_expr.load(self.folder(name))
        run.training_table()
        return run


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    return Fitted(tmp_path_factory.mktemp("fitted"))
