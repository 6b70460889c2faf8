"""Encodings: levels by hand, unseen and missing values, JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pgm_expr.data import Columns, Encoding

OBS = pd.DataFrame(
    {
        "cell_type": pd.Categorical(
            ["T", "B", "unknown", "T", None, "B"] * 2, ["T", "B", "unknown"]
        ),
        "plate": [2, 10, 2, 10, 2, 10] * 2,
        "donor": ["d1", "d2", None, "d1", "d2", "d1"] * 2,
        "age": [20.0, 40.0, np.nan, 30.0, 50.0, 60.0] * 2,
    },
    index=[f"cell{i}" for i in range(12)],
)
COLUMNS = Columns("cell_type", "plate", ("donor",), ("age",), "unknown")
TRAIN = np.arange(4)


@pytest.fixture
def encoding():
    return Encoding.learn(OBS, COLUMNS, TRAIN)


def refused(call):
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def learn(obs=OBS, train=TRAIN, **columns):
    return Encoding.learn(obs, Columns(**columns), train)


def test_levels_and_moments(encoding):
    assert encoding.labels == ("B", "T")
    assert encoding.batches == ("10", "2")
    assert encoding.categories == {"donor": ("d1", "d2")}
    assert encoding.moments["age"] == (30.0, pytest.approx(np.std([20, 40, 30])))
    assert encoding.features == (
        "donor=d1",
        "donor=d2",
        "donor is missing",
        "age",
        "age is missing",
    )
    assert encoding.dims() == {"labels": 2, "batches": 2, "conditions": 5}


def test_codes_by_hand(encoding):
    encoded = encoding.encode(OBS[:6])
    np.testing.assert_array_equal(encoded["label"], [1, 0, -1, 1, -1, 0])
    np.testing.assert_array_equal(encoded["batch"], [1, 0, 1, 0, 1, 0])
    sd = np.std([20, 40, 30])
    expected = [
        [1, 0, 0, -10 / sd, 0],
        [0, 1, 0, 10 / sd, 0],
        [0, 0, 1, 0, 1],
        [1, 0, 0, 0, 0],
        [0, 1, 0, 20 / sd, 0],
        [1, 0, 0, 30 / sd, 0],
    ]
    np.testing.assert_allclose(encoded["condition"], expected, rtol=1e-6)
    types = {key: value.dtype for key, value in encoded.items()}
    assert types == {"label": np.int64, "batch": np.int64, "condition": np.float32}


def test_codes_point_back_at_the_levels(encoding):
    codes = encoding.encode(OBS)["batch"]
    assert [encoding.batches[code] for code in codes] == [str(plate) for plate in OBS["plate"]]


def test_only_what_was_asked_for():
    encoding = learn(batch_key="plate")
    assert set(encoding.encode(OBS)) == {"batch"}
    assert encoding.dims() == {"batches": 2}
    assert encoding.features == ()
    assert learn().encode(OBS) == {}


def test_levels_come_from_all_cells_in_any_type():
    assert learn(train=np.array([0]), categorical_covariate_keys=("plate",)).categories == {
        "plate": ("10", "2")
    }
    encoding = learn(batch_key="plate")
    floats = OBS.assign(plate=OBS["plate"].astype(float))
    words = OBS.assign(plate=OBS["plate"].astype(str).astype("category"))
    for same in (floats, words):
        np.testing.assert_array_equal(
            encoding.encode(same)["batch"], encoding.encode(OBS)["batch"]
        )


def test_integer_and_nullable_covariates():
    nullable = OBS.assign(age=OBS["age"].astype("Int64"))
    first = learn(nullable, continuous_covariate_keys=("age",)).encode(nullable)["condition"]
    second = learn(continuous_covariate_keys=("age",)).encode(OBS)["condition"]
    np.testing.assert_array_equal(first, second)


def test_json_round_trip(encoding):
    stored = json.loads(json.dumps(encoding.to_json()))
    assert Encoding.from_json(stored) == encoding
    again = Encoding.from_json(stored).encode(OBS)
    for key, value in encoding.encode(OBS).items():
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize(
    ("columns", "meant"),
    [
        ({"labels_key": "celltype"}, "cell_type"),
        ({"batch_key": "Plate"}, "plate"),
        ({"categorical_covariate_keys": ("doner",)}, "donor"),
        ({"continuous_covariate_keys": ("agee",)}, "age"),
    ],
)
def test_unknown_key_lists_and_guesses(columns, meant):
    message = refused(lambda: learn(**columns))
    assert "it holds 'cell_type', 'plate', 'donor', 'age'" in message
    assert f"Did you mean '{meant}'?" in message


def test_a_bare_string_of_keys():
    message = refused(lambda: learn(categorical_covariate_keys="donor"))
    assert "must be a list of names: got 'donor'. Pass ['donor']" in message


def test_numbers_that_are_none():
    message = refused(lambda: learn(continuous_covariate_keys=("donor",)))
    assert "obs column 'donor' must be numeric: found 'd1' at cell 'cell0'" in message
    infinite = OBS.assign(age=[np.inf, *OBS["age"][1:]])
    message = refused(lambda: learn(infinite, continuous_covariate_keys=("age",)))
    assert "infinite value at cell 'cell0'" in message


def test_constant_over_training_cells():
    message = refused(lambda: learn(train=np.array([0, 2]), continuous_covariate_keys=("age",)))
    assert "found only 20 in 2 cells" in message
    message = refused(lambda: learn(train=np.array([2, 8]), continuous_covariate_keys=("age",)))
    assert "found no value in 2 cells" in message


def test_a_column_without_any_value():
    empty = OBS.assign(donor=None)
    assert "missing in all 12 cells" in refused(lambda: learn(empty, batch_key="donor"))


def test_too_many_levels():
    crowded = OBS.assign(donor=OBS.index, size=np.linspace(0.1, 0.9, 12))
    with pytest.warns(UserWarning, match="'donor' has 12 levels over 12 cells"):
        learn(crowded, categorical_covariate_keys=("donor",))
    message = refused(lambda: learn(crowded, categorical_covariate_keys=("size",)))
    assert "it is a number. Pass it in continuous_covariate_keys" in message


def test_unlabelled_category_that_does_not_occur():
    with pytest.warns(UserWarning, match="'Unknown' is not in.*Did you mean 'unknown'"):
        encoding = learn(labels_key="cell_type", unlabeled_category="Unknown")
    assert encoding.labels == ("B", "T", "unknown")
    assert "needs labels_key" in refused(lambda: learn(unlabeled_category="unknown"))


def test_no_label_at_all():
    same = OBS.assign(cell_type="unknown")
    message = refused(lambda: learn(same, labels_key="cell_type", unlabeled_category="unknown"))
    assert "found 'unknown' in every labelled cell" in message


@pytest.mark.parametrize(("key", "argument"), [("plate", "batch_key"), ("donor", "category")])
def test_unseen_level_in_query(encoding, key, argument):
    query = OBS.copy()
    query[key] = query[key].astype(object)
    query.loc["cell3", key] = "d11"
    message = refused(lambda: encoding.encode(query))
    assert f"obs column {key!r} holds 'd11' at cell 'cell3'" in message
    assert "Known are " in message
    assert ("Did you mean 'd1'" in message) == (key == "donor")


def test_missing_batch_is_named(encoding):
    query = OBS.assign(plate=[2, None] * 6)
    message = refused(lambda: encoding.encode(query))
    assert "found 6 missing, first at cell 'cell1'" in message


def test_query_without_a_column(encoding):
    assert "label" not in encoding.encode(OBS.drop(columns="cell_type"))
    for key in ("plate", "donor", "age"):
        assert f"no column {key!r}" in refused(
            lambda key=key: encoding.encode(OBS.drop(columns=key))
        )


def test_unseen_label_counts_as_unlabelled(encoding):
    query = OBS.assign(cell_type=["T", "NK", "NKT", "B"] * 3)
    with pytest.warns(UserWarning, match="6 cells count as unlabelled.*'NK' at cell 'cell1'"):
        encoded = encoding.encode(query)
    np.testing.assert_array_equal(encoded["label"], [1, -1, -1, 0] * 3)
