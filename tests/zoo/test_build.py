"""What a story requires of the data, and how it says so."""

import pytest

from pgm_expr import zoo
from pgm_expr.data import Encoding

BATCH = ["x", "library"]
LACKING = {  # a story built or called without what it requires
    "label": "requires `labels`; pass labels_key to fit().",
    "shift": "requires `perturbations`; pass perturbation_key to fit().",
    "ladder": "requires `gene_sets`; pass gene_sets to fit().",
    "offset": "requires `conditions`; pass categorical_covariate_keys or "
    "continuous_covariate_keys to fit().",
}


@pytest.mark.parametrize("requires", [zoo.REQUIRES, Encoding.requires()], ids=["zoo", "data"])
@pytest.mark.parametrize("name", LACKING)
def test_a_missing_size_names_the_argument_of_fit(name, requires):
    story = zoo.story(name)
    with pytest.raises(ValueError) as caught:
        zoo.build(story, {"genes": 5}, requires=requires)
    assert str(caught.value) == f"{story.model.__name__} {LACKING[name]}"


@pytest.mark.parametrize("name, entry", [("classify", "label"), ("regress", "target")])
def test_a_missing_entry_names_the_argument_of_fit(name, entry):
    story = zoo.story(name)
    with pytest.raises(ValueError, match=f"requires `{entry}`; pass {entry}s?_key to fit"):
        zoo.check_entries(story, BATCH)
    zoo.check_entries(story, [*BATCH, entry])


def test_arguments_of_fit_are_those_that_the_data_layer_names():
    assert {name: zoo.REQUIRES[name] for name in zoo.REQUIRES} == {
        name: argument for name, argument in Encoding.requires().items() if name in zoo.REQUIRES
    }


def test_other_names_for_the_data_give_other_messages():
    with pytest.raises(ValueError, match="requires `labels`; pass cell_type to fit"):
        zoo.build(zoo.story("label"), {"genes": 5}, requires={"labels": "cell_type"})
    with pytest.raises(ValueError, match="requires `dose`; pass dose to fit"):
        zoo.check_entries(zoo.Story(Dosed, Dosed), BATCH, requires={"dose": "dose"})


@pytest.mark.parametrize("name", zoo.STORIES)
def test_no_option_of_a_story_is_a_size_of_a_column(name):
    """Whatever kinds of columns there are: `zoo.FROM_DATA` lists what stories take of them."""
    assert not zoo.defaults(zoo.story(name)).keys() & Encoding.requires().keys()


def test_what_the_data_fill_cannot_be_set():
    """In a user-defined story too, whose sizes the package need not know."""
    sized = zoo.Story(Sized, Sized)
    assert [half.doses for half in zoo.build(sized, {"doses": 3})] == [3, 3]
    assert [half.doses for half in zoo.build(sized, {})] == [0, 0]
    with pytest.raises(ValueError, match="unknown option 'doses': it is filled from the data"):
        zoo.build(sized, {"doses": 3}, doses=7)


class Sized:
    """A half with a size that the package does not name."""

    def __init__(self, doses=0):
        self.doses = doses


class Dosed:
    """A half that is conditioned on a dose."""

    def forward(self, library, dose, x=None): ...


def test_a_user_defined_story_names_its_line(tmp_path):
    zoo.new(tmp_path / "mine.py", "classify")
    text = (tmp_path / "mine.py").read_text()
    story = zoo.load_story(tmp_path / "mine.py")
    line = 1 + text[: text.index("def forward")].count("\n")
    with pytest.raises(ValueError, match=rf"^mine\.py, line {line}: Classify requires `label`"):
        zoo.check_entries(story, BATCH)
    line = 1 + text[: text.index("def __init__")].count("\n")
    with pytest.raises(ValueError, match=rf"^mine\.py, line {line}: .*or give it a default"):
        zoo.build(story, {"genes": 5})
