"""`Encoding.set_to`: one column of obs set for all cells, every other left as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pgm_expr.data import Batch, Encoding

OBS = pd.DataFrame(
    {
        "cell_type": ["T", "B", None, "T"] * 3,
        "plate": [2, 10, 2, 10] * 3,
        "donor": ["d1", "d2", None, "d1"] * 3,
        "tissue": ["liver", "lung", "lung", None] * 3,
        "age": [20.0, 40.0, np.nan, 30.0] * 3,
        "dose": [0.0, 1.0, 2.0, 3.0] * 3,
        "guide": ["none", "A", "B+A", "B"] * 3,
        "score": [1.0, 2.0, np.nan, 4.0] * 3,
        "patient": ["p1", "p2", "p3"] * 4,
        "spare": range(12),
    },
    index=[f"cell{i}" for i in range(12)],
)
ARGUMENTS = dict(
    labels_key="cell_type",
    batch_key="plate",
    categorical_covariate_keys=("donor", "tissue"),
    continuous_covariate_keys=("age", "dose"),
    perturbation_key="guide",
    control="none",
    target_key="score",
    donor_key="patient",
)
TO = {  # what each column is set to, and the cells' own column that then says so
    "cell_type": "T",
    "plate": 10,
    "donor": "d2",
    "tissue": "liver",
    "age": 35.0,
    "dose": 7.5,
    "guide": "A+B",
}


@pytest.fixture
def encoding():
    return Encoding.learn(OBS, ARGUMENTS, np.arange(12))


@pytest.fixture
def encoded(encoding):
    return encoding.encode(OBS)


def same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_allclose(value, second[key], rtol=1e-6)
        assert value.dtype == second[key].dtype and value.shape == second[key].shape


@pytest.mark.parametrize("key", TO)
def test_a_change_is_what_changed_cells_would_be_encoded_as(key, encoding, encoded):
    same(encoding.set_to(encoded, {key: TO[key]}), encoding.encode(OBS.assign(**{key: TO[key]})))


def test_several_columns_at_once_in_any_order(encoding, encoded):
    all_at_once = encoding.set_to(encoded, TO)
    same(all_at_once, encoding.encode(OBS.assign(**TO)))
    same(all_at_once, encoding.set_to(encoded, dict(reversed(TO.items()))))


def test_a_number_may_be_text(encoding, encoded):
    same(*(encoding.set_to(encoded, {"age": age}) for age in ("35", 35.0)))


def test_by_hand(encoding, encoded):
    """donor=d1, donor=d2, donor missing, tissue=liver, lung, missing, age, missing, dose, ..."""
    changed = encoding.set_to(encoded, {"donor": "d2", "age": 30.0, "plate": "2", "guide": "B"})
    rows = changed["condition"]
    assert rows[:, :3].tolist() == [[0, 1, 0]] * 12
    assert np.array_equal(rows[:, 3:6], encoded["condition"][:, 3:6])
    assert rows[:, 6:8].tolist() == [[0, 0]] * 12  # 30 is the mean of the ages
    assert np.array_equal(rows[:, 8:], encoded["condition"][:, 8:])
    assert changed["batch"].tolist() == [encoding.get(Batch).levels.index("2")] * 12
    assert changed["perturbation"].tolist() == [[0, 1]] * 12
    assert np.array_equal(changed["label"], encoded["label"])
    assert np.array_equal(changed["target"], encoded["target"], equal_nan=True)


def test_the_control_is_no_perturbation(encoding, encoded):
    for level in ("none", "none+none"):
        assert not encoding.set_to(encoded, {"guide": level})["perturbation"].any()


def test_missing_is_a_level_of_its_own(encoding, encoded):
    rows = encoding.set_to(encoded, {"donor": None, "age": np.nan})["condition"]
    assert rows[:, :3].tolist() == [[0, 0, 1]] * 12 and rows[:, 6:8].tolist() == [[0, 1]] * 12
    assert set(encoding.set_to(encoded, {"cell_type": None})["label"]) == {-1}


def test_none_is_a_missing_number(encoding, encoded):
    same(*(encoding.set_to(encoded, {"age": age}) for age in (None, np.nan)))


def test_the_cells_themselves_are_left_alone(encoding, encoded):
    before = {key: value.copy() for key, value in encoded.items()}
    encoding.set_to(encoded, TO)["condition"][:] = 0
    same({k: v for k, v in encoded.items()}, before)
    same(encoding.set_to(encoded, {}), before)


def test_a_column_that_the_cells_do_not_bring_is_added(encoding, encoded):
    del encoded["label"]
    assert encoding.set_to(encoded, {"cell_type": "B"})["label"].tolist() == [0] * 12


ERRORS = {
    "unknown column": ({"doner": "d1"}, "did not use obs column 'doner'.*'donor'"),
    "column of obs that the fit did not use": ({"spare": 3}, "did not use obs column 'spare'"),
    "batch": ({"plate": 3}, "'plate' to '3'.*has not seen.*Known levels"),
    "category": ({"tissue": "livr"}, "'tissue' to 'livr'.*has not seen.*'liver'"),
    "label": ({"cell_type": "NK"}, "'cell_type' to 'NK'.*has not seen"),
    "perturbation": ({"guide": "A+C"}, "'guide' to 'A\\+C'.*has not seen 'C'"),
    "missing perturbation": ({"guide": None}, "must name a perturbation"),
    "missing batch": ({"plate": None}, "'plate' must name a batch"),
    "text for a number": ({"age": "old"}, "'age' is numeric in the fit: got 'old'"),
    "infinite": ({"dose": np.inf}, "'dose' must be finite"),
    "target": ({"score": 1.0}, "'score' is the target of the fit"),
    "donor": ({"patient": "p1"}, "'patient' is the unit of replication"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_what_cannot_be_is_named(kind, encoding, encoded):
    levels, words = ERRORS[kind]
    with pytest.raises(ValueError, match=words) as caught:
        encoding.set_to(encoded, levels)
    assert "\n" not in str(caught.value)


def test_a_combination_needs_no_control():
    """Where every cell received something: levels are still read as A+B."""
    obs = pd.DataFrame({"guide": ["A", "B", "A+B", "B"] * 2})
    encoding = Encoding.learn(obs, {"perturbation_key": "guide"}, np.arange(8))
    changed = encoding.set_to(encoding.encode(obs), {"guide": "B+A"})
    assert changed["perturbation"].tolist() == [[1, 1]] * 8


def test_a_column_of_several_kinds_is_set_in_all_of_them():
    """A plate that is batch, covariate and donor: as the cells of the other plate."""
    arguments = {
        "batch_key": "plate",
        "categorical_covariate_keys": ["plate", "donor"],
        "donor_key": "plate",
    }
    encoding = Encoding.learn(OBS, arguments, np.arange(12))
    changed = encoding.set_to(encoding.encode(OBS), {"plate": 10})
    same(changed, encoding.encode(OBS.assign(plate=10)))


def test_cells_without_any_entry_are_counted_by_n():
    encoding = Encoding.learn(OBS, {"labels_key": "cell_type"}, np.arange(12))
    assert encoding.set_to({}, {"cell_type": "T"}, n=5)["label"].tolist() == [1] * 5
