"""Laws of every kind of obs column, and a kind that the package does not know."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

import pgm_expr
from pgm_expr.data import (
    ARGUMENTS,
    FIELDS,
    Batch,
    CategoricalCovariate,
    ContinuousCovariate,
    Donor,
    Encoding,
    Field,
    Label,
    Perturbation,
    Target,
    fields,
    learn_fields,
)

N = 12
OBS = pd.DataFrame(
    {
        "type": ["T", "B", None, "NK"] * 3,
        "plate": [2, 10, 2, 7] * 3,
        "tissue": pd.Categorical(["liver", "lung", None, "gut"] * 3),
        "age": [20.0, 40.0, np.nan, 30.0, 50.0, 60.0] * 2,
        "guide": ["none", "A", "B", "A+B"] * 3,
        "score": [1.0, 2.0, np.nan, 4.0, 3.0, 7.0] * 2,
        "patient": ["p3", "p1", "p2"] * 4,
    },
    index=[f"cell{i}" for i in range(N)],
)
GIVEN = {
    "label": {"labels_key": "type"},
    "batch": {"batch_key": "plate"},
    "categorical_covariate": {"categorical_covariate_keys": ["tissue"]},
    "continuous_covariate": {"continuous_covariate_keys": ["age"]},
    "perturbation": {"perturbation_key": "guide", "control": "none"},
    "target": {"target_key": "score"},
    "donor": {"donor_key": "patient"},
}
KINDS = {kind.kind: kind for kind in FIELDS}
# The kinds of tests whose figures are written out: a new kind changes none of those.
SEVEN = (Label, Batch, CategoricalCovariate, ContinuousCovariate, Perturbation, Target, Donor)
SETTABLE = [name for name, kind in KINDS.items() if kind.settable]


def learned(name):
    (field,) = learn_fields(KINDS[name], OBS, GIVEN[name], np.arange(N))
    return field


def groups(values):
    """Which rows are alike, numbered by first occurrence; rows of NaN are alike."""
    rows = np.asarray(values).reshape(len(values), -1)
    return pd.factorize(pd.Series([str(row) for row in rows]))[0]


def levels(field):
    """Which cells have the same level, from the column itself."""
    return pd.factorize(OBS[field.key], use_na_sentinel=False)[0]


def test_every_kind_has_a_name_and_arguments_of_its_own():
    assert list(KINDS) == list(GIVEN)
    assert len(ARGUMENTS) == sum(len(kind.arguments) for kind in FIELDS)


def of_kinds():
    """The kinds of columns in the files of the package."""
    modules = (
        importlib.import_module(f"{fields.__name__}.{module.name}")
        for module in pkgutil.iter_modules(fields.__path__)
    )
    found = (each for module in modules for each in vars(module).values())
    classes = (each for each in found if inspect.isclass(each) and Field in each.__mro__)
    return {each for each in classes if "kind" in vars(each)}


def test_each_kind_in_a_file_is_a_row():
    assert of_kinds() == {*FIELDS} and len(FIELDS) == len(KINDS)


def test_fit_has_the_arguments_of_all_kinds_and_no_other_key():
    parameters = inspect.signature(pgm_expr.fit).parameters
    assert {name for name in parameters if name.endswith(("_key", "_keys"))} <= {*ARGUMENTS}
    assert {*ARGUMENTS} <= {*parameters}
    assert all(parameters[name].default in (None, ()) for name in ARGUMENTS)


@pytest.mark.parametrize("name", KINDS)
def test_arguments_are_those_of_learn_with_one_line_of_help(name):
    _, _, *parameters = inspect.signature(KINDS[name].learn).parameters
    assert list(KINDS[name].arguments) == parameters
    for text in KINDS[name].arguments.values():
        assert text.endswith(".") and "\n" not in text


@pytest.mark.parametrize("name", KINDS)
def test_no_field_without_its_argument(name):
    for nothing in ({}, dict.fromkeys(GIVEN[name]), {"another_key": "type"}):
        assert learn_fields(KINDS[name], OBS, nothing, np.arange(N)) == ()


@pytest.mark.parametrize("name", KINDS)
def test_json_and_back_encodes_the_same(name):
    field = learned(name)
    again = KINDS[name].from_json(json.loads(json.dumps(field.to_json())))
    assert again == field and again.to_json()["kind"] == name
    np.testing.assert_array_equal(again.encode(OBS), field.encode(OBS))


@pytest.mark.parametrize("name", KINDS)
def test_types_and_shapes(name):
    field = learned(name)
    encoded = field.encode(OBS)
    assert encoded.dtype == field.dtype and encoded.shape in {(N,), (N, field.size)}
    assert len(field.features) in {0, field.size}
    assert not (field.dimension and not field.entry)


@pytest.mark.parametrize("name", KINDS)
def test_one_cell_is_encoded_alone_as_among_others(name):
    field = learned(name)
    whole = field.encode(OBS)
    for i in range(4):
        np.testing.assert_array_equal(field.encode(OBS[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("name", SETTABLE)
def test_set_to_a_level_is_what_cells_of_that_level_are_encoded_as(name):
    field = learned(name)
    for level in OBS[field.key].dropna().unique():
        cells = OBS.assign(**{field.key: level})
        for written in (level, str(level)):
            value = field.set_to(written)
            np.testing.assert_array_equal(value, field.encode(cells)[:1])
            assert value.dtype == field.dtype


@pytest.mark.parametrize("name", sorted({*KINDS} - {*SETTABLE}))
def test_what_models_are_not_conditioned_on_cannot_be_set(name):
    field = learned(name)
    with pytest.raises(ValueError, match=f"{field.key!r}.*cannot be set. Name another column"):
        field.set_to(OBS[field.key].iloc[0])


@pytest.mark.parametrize("name", KINDS)
def test_decoded_cells_are_alike_where_their_levels_are(name):
    field = learned(name)
    decoded = field.decode(field.encode(OBS))
    assert decoded.shape == (N,)
    np.testing.assert_array_equal(groups(decoded), levels(field))
    missing = np.isnan(decoded) if decoded.dtype.kind == "f" else decoded == -1
    np.testing.assert_array_equal(missing, OBS[field.key].isna())


@pytest.mark.parametrize("name", ["label", "batch", "categorical_covariate", "donor"])
def test_decoded_codes_are_positions_of_levels(name):
    field = learned(name)
    names = np.array([*field.levels, "nan"])[field.decode(field.encode(OBS))]
    assert names.tolist() == ["nan" if pd.isna(level) else str(level) for level in OBS[field.key]]


@pytest.mark.parametrize("name", ["continuous_covariate", "target"])
def test_decoded_numbers_are_standardised(name):
    field = learned(name)
    numbers = field.decode(field.encode(OBS)) * field.sd + field.mean
    np.testing.assert_allclose(numbers, OBS[field.key], rtol=1e-6)


@pytest.mark.parametrize("name", SETTABLE)
def test_indicators_are_alike_where_levels_are(name):
    field = learned(name)
    found = field.indicators(torch.as_tensor(field.encode(OBS)))
    assert found.shape == (N, field.size) and found.dtype == torch.float32
    np.testing.assert_array_equal(groups(found.numpy()), levels(field))


@pytest.mark.parametrize("name", ["label", "batch"])
def test_indicators_of_codes_are_one_hot(name):
    field = learned(name)
    codes = field.encode(OBS)
    found = field.indicators(torch.as_tensor(codes)).numpy()
    np.testing.assert_array_equal(found.sum(1), codes >= 0)
    np.testing.assert_array_equal(found.argmax(1)[codes >= 0], codes[codes >= 0])


@pytest.mark.parametrize("name", KINDS)
def test_a_predicted_kind_says_what_stands_for_a_withheld_value(name):
    """It is what a missing value is encoded as."""
    field = learned(name)
    assert field.predicted == (field.missing is not None)
    if field.predicted:
        (value,) = field.encode(OBS[OBS[field.key].isna()][:1])
        np.testing.assert_array_equal(value, field.missing)
        assert (value.dtype, value.shape) == (field.missing.dtype, field.missing.shape)


@pytest.mark.parametrize("name", KINDS)
def test_only_predicted_and_unseen_columns_may_be_absent(name):
    encoding = Encoding((learned(name),))
    gone = OBS.drop(columns=learned(name).key)
    if KINDS[name].predicted or not KINDS[name].entry:
        assert encoding.encode(gone) == {}
    else:
        with pytest.raises(ValueError, match="obs has no column"):
            encoding.encode(gone)


ALL = {name: value for kind in SEVEN for name, value in GIVEN[kind.kind].items()}


def test_an_encoding_is_its_fields_side_by_side():
    """Entries in the order of the kinds; both covariates are columns of the condition."""
    encoding = Encoding.learn(OBS, ALL, np.arange(N), SEVEN)
    encoded = encoding.encode(OBS)
    assert list(encoded) == ["label", "batch", "condition", "perturbation", "target"]
    assert encoding.fields == tuple(learned(kind.kind) for kind in SEVEN)
    parts = list(encoding.parts(encoded))
    assert [field.name for field, _ in parts] == [
        *("label", "batch", "tissue", "age", "perturbation", "target")
    ]
    for field, columns in parts:
        np.testing.assert_array_equal(columns, field.encode(OBS))
    assert encoding.dims() == {"labels": 3, "batches": 3, "conditions": 6, "perturbations": 2}
    assert len(encoding.features) == encoded["condition"].shape[1] == 6
    assert encoding.labels == ("B", "NK", "T") and Encoding().labels == ()
    assert Encoding.from_json(json.loads(json.dumps(encoding.to_json()))) == encoding


def test_generators_are_conditioned_on_all_but_the_target():
    encoding = Encoding.learn(OBS, ALL, np.arange(N), SEVEN)
    encoded = {key: torch.as_tensor(value) for key, value in encoding.encode(OBS).items()}
    found = encoding.indicators(encoded)
    assert found.shape == (N, 3 + 3 + 6 + 2)
    assert torch.equal(found[:, 6:12], encoded["condition"])
    assert torch.equal(found[:, 12:], encoded["perturbation"])
    label = encoding.indicators({"label": encoded["label"]})
    assert torch.equal(label, found[:, :3])
    assert encoding.indicators({"target": encoded["target"]}) is None
    assert Encoding().indicators(encoded) is None


@dataclass(frozen=True)
class Hours(Field):
    """A planted kind: hours since the start, not standardised."""

    kind = "hours"
    arguments = {"hours_key": "Column of obs with hours."}
    entry, dimension = "time", "times"
    size = 1

    key: str
    last: float

    @classmethod
    def learn(cls, obs, train, hours_key):
        return (cls(hours_key, float(obs[hours_key].max())),)

    def encode(self, obs):
        return obs[[self.key]].to_numpy(np.float32)

    def set_to(self, level):
        return np.array([[level]], dtype=np.float32)

    def decode(self, columns):
        return columns[:, 0]


@dataclass(frozen=True)
class Dose(Hours):
    """A planted kind that shares an entry with others: one more column of the condition."""

    kind = "dose"
    arguments = {"dose_key": "Column of obs with a dose."}
    entry, dimension = "condition", "conditions"

    @classmethod
    def learn(cls, obs, train, dose_key):
        return (cls(dose_key, float(obs[dose_key].max())),)

    @property
    def features(self):
        return (self.key,)


def test_a_new_kind_needs_no_other_line():
    obs = OBS.assign(hours=np.arange(N) / 2, dose=np.arange(N) % 5)
    arguments = ALL | {"hours_key": "hours", "dose_key": "dose"}
    kinds = (*SEVEN, Hours, Dose)
    encoding = Encoding.learn(obs, arguments, np.arange(N), kinds)
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())), kinds)
    assert again == encoding and encoding.get(Hours) == Hours("hours", 5.5)
    encoded = encoding.encode(obs)
    np.testing.assert_array_equal(encoded["time"][:, 0], obs["hours"])
    np.testing.assert_array_equal(encoded["condition"][:, 6], obs["dose"])
    assert encoding.features[6:] == ("dose",)
    sizes = {"labels": 3, "batches": 3, "conditions": 7, "perturbations": 2, "times": 1}
    assert encoding.dims() == sizes
    changed = encoding.set_to(encoded, {"dose": 9, "hours": 8})
    for key, value in encoding.encode(obs.assign(dose=9, hours=8)).items():
        np.testing.assert_array_equal(changed[key], value)
    required = Encoding.requires(kinds)
    assert required["time"] == required["times"] == "hours_key"
    assert required["condition"].endswith(" or dose_key")
    tensors = {key: torch.as_tensor(value) for key, value in encoded.items()}
    assert encoding.indicators(tensors).shape == (N, 3 + 3 + 7 + 2 + 1)
    with pytest.raises(ValueError, match="unknown argument 'hours_key'"):
        Encoding.learn(obs, arguments, np.arange(N))
