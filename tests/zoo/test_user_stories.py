"""User-defined stories: written by `new`, read back, trained, and loaded again."""

import hashlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import anndata
import pytest
import torch

import pgm_expr
from pgm_expr import simulate, zoo
from pgm_expr.cli import main as cli

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")  # of two epochs

ROOT = Path(__file__).parents[2]
SMALL = dict(latent=2, hidden=8, epochs=2, progress=False)
DIMS = {"genes": 12, "batches": 2, "conditions": 4, "labels": 3, "perturbations": 2}
FILLED = {"average": torch.ones(12) / 12, "log_library": torch.tensor([5.0, 0.5])}
STORIES = pytest.mark.parametrize("name", zoo.STORIES)


@pytest.fixture
def mine(tmp_path):
    """A user-defined story's file, and a way to change it."""
    path = tmp_path / "mine.py"
    zoo.new(path)

    def edit(old, new, count=1):
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, count))
        return path

    edit.path = path
    return edit


@pytest.fixture(scope="module")
def adata():
    truth = simulate.simulate(60, 20, seed=0, types=2, batches=2, median_library=2000.0)
    return truth.to_anndata()


def loss(story):
    """Of a pair from one seed, on one minibatch."""
    torch.manual_seed(3)
    pair = zoo.build(
        story, DIMS | FILLED | {"examples": torch.ones(100, 12), "gene_sets": torch.eye(4, 12)}
    )
    x = torch.poisson(torch.full((7, 12), 4.0)) + 1
    batch = {
        "x": x,
        "library": x.sum(-1, keepdim=True),
        "condition": torch.randn(7, 4),
        "batch": torch.arange(7) % 2,
        "label": torch.arange(7) % 3,
        "perturbation": torch.eye(2)[torch.arange(7) % 2],
        "target": torch.randn(7, 1),
    }
    return [list(half.state_dict()) for half in pair], story.objective(*pair, cells=7)(**batch)


@STORIES
def test_a_new_file_is_the_story_it_was_written_from(name, tmp_path):
    zoo.new(tmp_path / "mine.py", name)
    own, built_in = zoo.load_story(tmp_path / "mine.py"), zoo.story(name)
    assert own.model is not built_in.model and own.objective is built_in.objective
    (names, mine), (expected, theirs) = loss(own), loss(built_in)
    assert names == expected and torch.equal(mine, theirs)


@STORIES
def test_a_new_file_is_one_page_without_relative_imports(name, tmp_path):
    zoo.new(tmp_path / "mine.py", name)
    text, story = (tmp_path / "mine.py").read_text(), zoo.story(name)
    assert inspect.getdoc(inspect.getmodule(story.model)).splitlines()[0] in text.splitlines()[0]
    assert "from ." not in text and text.rstrip().splitlines()[-1].startswith("story = Story(")
    for half in (story.model, story.guide):
        assert inspect.getsource(half) in text
    for line in inspect.getdoc(inspect.getmodule(story.guide)).splitlines():
        assert "models/" in line or f"# {line}".rstrip() in text.splitlines(), line


@STORIES
@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=str)
def test_a_new_file_is_clean(name, command, tmp_path):
    pytest.importorskip("ruff")
    zoo.new(tmp_path / "mine.py", name)
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    line = [sys.executable, "-m", "ruff", *command, *settings, str(tmp_path / "mine.py")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_objective_that_is_not_the_usual_one_is_written(tmp_path, monkeypatch):
    usual = zoo.STORIES["vae"]
    odd = zoo.Story(usual.model, usual.guide, zoo.OBJECTIVES["iwae"])
    monkeypatch.setitem(zoo.STORIES, "odd", odd)
    zoo.new(tmp_path / "mine.py", "odd")
    assert zoo.load_story(tmp_path / "mine.py").objective is odd.objective


def test_classes_of_a_file_can_be_inspected_as_they_were_read(mine):
    story = zoo.load_story(mine.path)
    before = inspect.getsource(story.guide)
    lines, start = inspect.getsourcelines(story.guide)
    assert mine.path.read_text().splitlines()[start - 1].startswith("class VAEGuide")
    mine("import pyro\n", "\n\nimport pyro\n")
    assert inspect.getsource(story.guide) == before and lines[0].startswith("class VAEGuide")


def test_a_file_is_read_anew_at_each_load(mine):
    first = zoo.load_story(mine.path)
    second = zoo.load_story(mine("latent: int = 10", "latent: int = 7"))
    assert zoo.defaults(first)["latent"] == 10 and first.own != second.own
    assert inspect.signature(second.model).parameters["latent"].default == 7
    assert second.own["sha256"] == hashlib.sha256(mine.path.read_bytes()).hexdigest()
    assert second.own["file"] == "mine.py" and second.own["text"] == mine.path.read_text()


END = "story = Story(model=VAE, guide=VAEGuide)"
BROKEN = {
    "syntax": ("class VAEGuide(PyroModule):", "class VAEGuide(PyroModule)", "SyntaxError"),
    "import": ("import pyro\n", "import pyro\nimport helpers_of_mine\n", "helpers_of_mine"),
    "name": (END, END + "\nprint(undefined)", "NameError"),
    "exit": (END, END + "\nraise SystemExit(3)", "SystemExit"),
    "constructor": ("self.decode = mlp(", "self.decode = mpl(", "NameError"),
    "argument": (
        "int,\n        average",
        "int,\n        batches: int,\n        average",
        "batches",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_names_its_line(kind, mine):
    old, new, word = BROKEN[kind]
    path = mine(old, new)
    broken = {"argument": "def __init__("}.get(kind, new.strip().splitlines()[-1])
    number = next(n for n, line in enumerate(path.read_text().splitlines(), 1) if broken in line)
    with pytest.raises(ValueError, match=rf"^mine\.py, line {number}: .*{word}") as caught:
        zoo.build(zoo.load_story(path), {"genes": 12})
    assert "\n" not in str(caught.value)


ENDED = {
    "": "defines no `story`",
    "story = 7": "must be a Story: got int",
    "story = Story(model=VAE(5), guide=VAEGuide)": "instance of VAE",
    "story = Story(model=VAE, guide=VAEGuide, objective=VAE)": "must derive from pgm_expr",
    "story = Story(model=VAE, guide=VAEGuide, objective=3)": "instance of int",
}


@pytest.mark.parametrize("end", ENDED)
def test_a_file_must_end_in_a_story(end, mine):
    with pytest.raises(ValueError, match=rf"mine\.py.*{ENDED[end]}"):
        zoo.load_story(mine(END, end))


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        zoo.load_story(tmp_path / "mine.py")
    with pytest.raises(ValueError, match="No such file.*pgm-expr new"):
        zoo.load_story(tmp_path / "none.py")


def test_python_takes_the_file_too(mine, adata, tmp_path):
    run = pgm_expr.fit(adata, mine.path, out=tmp_path / "run", **SMALL)
    own = run.notes["own"]
    assert run.notes["story"] == "mine" and own == zoo.load_story(mine.path).own
    again = pgm_expr.load(tmp_path / "run", story=str(mine.path))
    assert (again.embed(adata.copy()) == run.embed(adata.copy())).all()
    story = zoo.load_story(mine.path)
    assert pgm_expr.load(tmp_path / "run", story).key == "X_pgm_mine"
    loose = pgm_expr.Story(story.model, story.guide)
    assert pgm_expr.load(tmp_path / "run", loose).notes["story"] == "mine"


def test_a_file_named_like_a_story_of_the_zoo_stays_user_defined(mine, adata, tmp_path):
    path = mine.path.rename(tmp_path / "vae.py")
    pgm_expr.fit(adata, path, out=tmp_path / "run", **SMALL)
    for given in (None, "vae"):
        with pytest.raises(ValueError, match=r"user-defined story vae\.py|story vae\.py: got vae"):
            pgm_expr.load(tmp_path / "run", given)
    pgm_expr.fit(adata, "vae", out=tmp_path / "zoo", **SMALL)
    assert pgm_expr.load(tmp_path / "zoo", "vae").notes["own"] is None
    with pytest.raises(ValueError, match=r"run of the story vae: got .*vae\.py"):
        pgm_expr.load(tmp_path / "zoo", path)


def test_a_changed_file_does_not_resume(mine, adata, tmp_path):
    pgm_expr.fit(adata, mine.path, out=tmp_path / "run", **SMALL)
    (tmp_path / "run" / "model.safetensors").unlink()  # as if it was killed
    mine("log1p(x)", "log1p(x + 1)")
    with pytest.raises(ValueError, match=r"unfinished run of other settings \(the story file\)"):
        pgm_expr.fit(adata, mine.path, out=tmp_path / "run", **SMALL)


@pytest.fixture
def command(capsys, monkeypatch):
    """Run a command: (exit code, stdout, stderr)."""
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def type_in(line):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        return stop.value.code or 0, *capsys.readouterr()

    return type_in


@pytest.fixture
def typed(command, adata, tmp_path, monkeypatch):
    """A folder with data and a run of mine.py, typed as a user does."""
    monkeypatch.chdir(tmp_path)
    adata.write_h5ad("cells.h5ad")
    assert command("new mine.py --from vae")[:2][0] == 0
    sizes = "--set latent=2 --set hidden=8"
    code, out, _ = command(f"fit cells.h5ad --story mine.py --out run --epochs 3 {sizes}")
    assert code == 0 and "Story mine on 60 cells" in out
    return tmp_path


def test_from_new_to_embedded_on_the_command_line(typed, command):
    code, out, _ = command("evaluate run --story mine.py")
    assert code in (0, 1) and "this run" in out
    code, out, _ = command("embed run cells.h5ad --story mine.py --out e.h5ad")
    assert code == 0 and "X_pgm_mine" in out
    assert anndata.read_h5ad("e.h5ad").obsm["X_pgm_mine"].shape == (60, 2)
    notes = json.loads((typed / "run" / "story.json").read_text())
    assert notes["own"]["text"] == (typed / "mine.py").read_text()


TYPED = {
    "evaluate run": ["user-defined story mine.py", "--story mine.py"],
    "embed run cells.h5ad --out e.h5ad": ["--story mine.py"],
    "evaluate run --story vae": ["mine.py", "got vae"],
    "evaluate run --story other.py": ["other.py", "mine.py", "hash", "story.json", "own.text"],
    "evaluate run --story none.py": ["none.py", "No such file"],
    "evaluate run --story odd.py": ["odd.py, line 2", "ZeroDivisionError"],
    "fit cells.h5ad --story odd.py --out new": ["odd.py, line 2", "ZeroDivisionError"],
    "fit cells.h5ad --story mine.py --out new --objective iwae-5 --set free_bits=1": [
        "average KL"
    ],
    "fit cells.h5ad --story bad.py --out new": ["bad.py, line 201", "site 'w'", "do not match"],
    "new mine.py": ["mine.py", "already"],
    "new story.txt": ["story.txt", ".py"],
    "new no/mine.py": ["no/mine.py", "no folder"],
    "new yours.py --from vea": ["vea", "vae"],
}


@pytest.mark.parametrize("line", TYPED)
def test_what_cannot_be_is_one_line_and_nothing_is_written(line, typed, command):
    text = (typed / "mine.py").read_text()
    (typed / "other.py").write_text(text + "# changed\n")
    (typed / "odd.py").write_text("import pyro\n1 / 0\n")
    start, _, end = text.rpartition('pyro.sample("z"')
    (typed / "bad.py").write_text(
        "\n" * (200 - start.count("\n")) + start + 'pyro.sample("w"' + end
    )
    before = contents(typed)
    code, _, err = command(line)
    (error,) = err.strip().splitlines()
    assert code == 2 and error.startswith("error:") and "Traceback" not in err
    assert all(word in error for word in TYPED[line]), error
    assert contents(typed) == before


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


REFUSED = {
    "by name": (
        dict(objective="mean-field", prior="mog"),
        "mean-field does not go with prior=mog",
    ),
    "the story's": (dict(prior="mog"), "mean-field does not go with prior=mog"),
    "free bits": (
        dict(objective="renyi-0.5-3", free_bits=0.1),
        "renyi does not go with free_bits",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_pair_says_why_and_writes_nothing(kind, adata, tmp_path, mine):
    options, words = REFUSED[kind]
    path = mine(END, END[:-1] + ", objective=MeanField)")
    mine(
        "from pgm_expr import Story\n",
        "from pgm_expr import Story\nfrom pgm_expr.inference import MeanField\n",
    )
    with pytest.raises(ValueError, match=words):
        pgm_expr.fit(adata, path, out=tmp_path / "run", **SMALL | options)
    assert not (tmp_path / "run").exists()
