"""Fields and their encoding: levels by hand, unseen and missing values, JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pgm_expr.data import (
    Batch,
    CategoricalCovariate,
    ContinuousCovariate,
    Donor,
    Encoding,
    Label,
    Perturbation,
    Target,
    grouped_split,
)

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
ARGUMENTS = {
    "labels_key": "cell_type",
    "batch_key": "plate",
    "categorical_covariate_keys": ("donor",),
    "continuous_covariate_keys": ("age",),
    "unlabeled_category": "unknown",
}
TRAIN = np.arange(4)


@pytest.fixture
def encoding():
    return Encoding.learn(OBS, ARGUMENTS, TRAIN)


def refused(call):
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def learn(obs=OBS, train=TRAIN, **arguments):
    return Encoding.learn(obs, arguments, train)


def test_levels_and_moments(encoding):
    assert encoding.labels == ("B", "T")
    assert encoding.get(Label) == Label("cell_type", ("B", "T"), "unknown")
    assert encoding.get(Batch).levels == ("10", "2")
    assert encoding.get(CategoricalCovariate) == CategoricalCovariate("donor", ("d1", "d2"))
    age = encoding.get(ContinuousCovariate)
    assert (age.key, age.mean, age.sd) == ("age", 30.0, pytest.approx(np.std([20, 40, 30])))
    assert encoding.get(Target) is None
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
    levels = encoding.get(Batch).levels
    assert [levels[code] for code in codes] == [str(plate) for plate in OBS["plate"]]


def test_only_columns_that_are_named():
    encoding = learn(batch_key="plate")
    assert set(encoding.encode(OBS)) == {"batch"}
    assert encoding.dims() == {"batches": 2}
    assert encoding.features == ()
    assert learn().encode(OBS) == {}


def test_levels_come_from_all_cells_in_any_type():
    plates = learn(train=np.array([0]), categorical_covariate_keys=("plate",))
    assert plates.fields == (CategoricalCovariate("plate", ("10", "2")),)
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
    ("arguments", "meant"),
    [
        ({"labels_key": "celltype"}, "cell_type"),
        ({"batch_key": "Plate"}, "plate"),
        ({"categorical_covariate_keys": ("doner",)}, "donor"),
        ({"continuous_covariate_keys": ("agee",)}, "age"),
        ({"perturbation_key": "donr"}, "donor"),
        ({"target_key": "agee"}, "age"),
    ],
)
def test_unknown_key_lists_and_guesses(arguments, meant):
    message = refused(lambda: learn(**arguments))
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
    assert "it is continuous. Pass it in continuous_covariate_keys" in message


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
    assert "Known levels: " in message
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


SCREEN = pd.DataFrame(
    {
        "guide": ["ctrl", "KLF1", "SPI1+KLF1", "SPI1", "ctrl", "KLF1+ctrl"] * 2,
        "growth": [1.0, 2.0, np.nan, 3.0, 4.0, 5.0] * 2,
    },
    index=[f"cell{i}" for i in range(12)],
)
GUIDE = dict(perturbation_key="guide", control="ctrl")


def test_perturbations_are_the_singles_of_all_combinations():
    """By hand: two singles in order of the alphabet; a control beside one adds nothing."""
    encoding = learn(SCREEN, **GUIDE)
    assert encoding.get(Perturbation).levels == ("KLF1", "SPI1")
    assert encoding.dims() == {"perturbations": 2}
    encoded = encoding.encode(SCREEN[:6])
    expected = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0], [1, 0]]
    np.testing.assert_array_equal(encoded["perturbation"], expected)
    assert encoded["perturbation"].dtype == np.float32 and set(encoded) == {"perturbation"}


def test_without_a_control_every_level_is_a_perturbation():
    encoding = learn(SCREEN, perturbation_key="guide")
    assert encoding.get(Perturbation).levels == ("KLF1", "SPI1", "ctrl")
    rows = encoding.encode(SCREEN[4:6])["perturbation"]
    np.testing.assert_array_equal(rows, [[0, 0, 1], [1, 0, 1]])


def test_an_unseen_combination_of_seen_perturbations_is_fine():
    singles = SCREEN[SCREEN["guide"] != "SPI1+KLF1"]
    encoding = learn(singles, **GUIDE)
    row = encoding.encode(SCREEN.loc[["cell2"]])["perturbation"]
    np.testing.assert_array_equal(row, [[1, 1]])


def test_an_unseen_single_perturbation_is_refused_by_name():
    query = SCREEN.assign(guide=["ctrl", "KLF1", "SPI1+KLF2", *SCREEN["guide"][3:]])
    message = refused(lambda: learn(SCREEN, **GUIDE).encode(query))
    assert "obs column 'guide' holds 'SPI1+KLF2' at cell 'cell2'" in message
    assert "not seen 'KLF2'. Known levels: 'KLF1', 'SPI1'. Did you mean 'KLF1'?" in message


def test_a_missing_perturbation_names_the_first_cell():
    query = SCREEN.assign(guide=SCREEN["guide"].where(SCREEN.index != "cell3"))
    message = refused(lambda: learn(SCREEN, **GUIDE).encode(query))
    assert "'guide' must name a perturbation for each cell: found 1 missing" in message
    assert "first at cell 'cell3'" in message
    gone = SCREEN.drop(columns="guide")
    assert "no column 'guide'" in refused(lambda: learn(SCREEN, **GUIDE).encode(gone))


def test_a_control_that_is_not_there():
    message = refused(lambda: learn(SCREEN, perturbation_key="guide", control="control"))
    assert "control 'control' is not in obs column 'guide'" in message
    assert "Did you mean 'ctrl'?" in message
    assert "needs perturbation_key" in refused(lambda: learn(SCREEN, control="ctrl"))
    same = SCREEN.assign(guide="ctrl")
    assert "found 'ctrl' in every cell" in refused(lambda: learn(same, **GUIDE))


def test_a_target_is_standardised_by_the_training_cells():
    """Of cells 0 to 3 the known values are 1, 2 and 3."""
    encoding = learn(SCREEN, target_key="growth")
    growth = encoding.get(Target)
    assert (growth.mean, growth.sd) == (2.0, pytest.approx(np.sqrt(2 / 3)))
    assert encoding.dims() == {}
    target = encoding.encode(SCREEN[:6])["target"]
    expected = (np.array([1, 2, np.nan, 3, 4, 5]) - 2) / np.sqrt(2 / 3)
    np.testing.assert_allclose(target, expected[:, None], rtol=1e-6)
    assert target.dtype == np.float32
    np.testing.assert_allclose(
        target[:, 0] * growth.sd + growth.mean, SCREEN["growth"][:6], rtol=1e-6
    )
    assert "target" not in encoding.encode(SCREEN.drop(columns="growth"))


def test_a_target_that_is_no_number_or_constant():
    message = refused(lambda: learn(SCREEN, target_key="guide"))
    assert "must be numeric: found 'ctrl' at cell 'cell0'" in message and "labels_key" in message
    message = refused(lambda: learn(SCREEN, train=np.array([0, 6]), target_key="growth"))
    assert "found only 1 in 2 cells. Leave it out of target_key" in message


def test_perturbations_and_target_go_through_json():
    encoding = learn(SCREEN, **GUIDE, target_key="growth")
    stored = json.loads(json.dumps(encoding.to_json()))
    assert Encoding.from_json(stored) == encoding


OF_0_5_0 = """{"columns": {"labels_key": "cell_type", "batch_key": "plate",
"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"],
"unlabeled_category": "unknown", "perturbation_key": "guide", "control": "ctrl",
"target_key": "growth"}, "labels": ["B", "T"], "batches": ["10", "2"], "categories":
{"donor": ["d1", "d2"]}, "moments": {"age": [30.0, 8.16496580927726]}, "perturbations":
["KLF1", "SPI1"], "target": [2.0, 0.816496580927726]}"""  # as 0.5.0 wrote it of these cells


def test_encodings_of_0_5_0_are_read():
    both = pd.concat([OBS, SCREEN], axis=1)
    arguments = {**ARGUMENTS, **GUIDE, "target_key": "growth"}
    assert Encoding.from_json(json.loads(OF_0_5_0)) == Encoding.learn(both, arguments, TRAIN)


def test_encodings_of_0_5_0_hold_only_columns_that_are_named():
    stored = json.loads(OF_0_5_0)
    for name in ("labels", "batches", "perturbations"):
        stored[name] = []
    stored |= {"categories": {}, "moments": {}, "target": None}
    stored["columns"] = dict.fromkeys(stored["columns"])
    assert Encoding.from_json(stored) == Encoding()
    stored["columns"]["batch_key"], stored["batches"] = "plate", ["10", "2"]
    assert Encoding.from_json(stored) == learn(batch_key="plate")


def test_encodings_before_perturbations_and_targets_are_read():
    stored = json.loads(OF_0_5_0)
    for name in ("perturbations", "target"):
        stored.pop(name)
    for name in ("perturbation_key", "control", "target_key"):
        stored["columns"].pop(name)
    assert Encoding.from_json(stored) == learn(**ARGUMENTS)


def test_a_kind_of_a_newer_version_is_named():
    stored = {"fields": [{"kind": "time", "key": "hours"}]}
    message = refused(lambda: Encoding.from_json(stored))
    assert "unknown kind 'time'" in message and "Update pgm_expr" in message


def test_which_cells_have_a_label():
    expected = [True, True, False, True, False, True] * 2
    label = Label("cell_type", unlabeled_category="unknown")
    np.testing.assert_array_equal(label.labelled(OBS), expected)
    np.testing.assert_array_equal(Label("plate").labelled(OBS), [True] * 12)
    assert "no column 'type'" in refused(lambda: Label("type").labelled(OBS))


def test_an_unknown_argument_is_named():
    message = refused(lambda: learn(label_key="cell_type"))
    assert "unknown argument 'label_key'" in message and "Did you mean 'labels_key'" in message


def test_a_covariate_named_twice_counts_once():
    once, twice = (learn(categorical_covariate_keys=["donor"] * times) for times in (1, 2))
    assert once == twice


def test_fit_arguments_provide_entries_and_sizes():
    covariates = "categorical_covariate_keys or continuous_covariate_keys"
    kinds = (Label, Batch, CategoricalCovariate, ContinuousCovariate, Perturbation, Target, Donor)
    assert Encoding.requires(kinds) == {
        "label": "labels_key",
        "labels": "labels_key",
        "batch": "batch_key",
        "batches": "batch_key",
        "condition": covariates,
        "conditions": covariates,
        "perturbation": "perturbation_key",
        "perturbations": "perturbation_key",
        "target": "target_key",
    }


@pytest.mark.parametrize("argument", ["donor_key", "split_key"])
def test_donors_fill_no_entry_and_have_codes(argument):
    """By hand: levels d1, d2 in the order of the alphabet."""
    known = OBS.assign(donor=["d1", "d2", "d2", "d1"] * 3)
    encoding = learn(known, **{argument: "donor"})
    donor = encoding.get(Donor)
    assert donor == Donor("donor", ("d1", "d2"))
    assert donor.groups(known).tolist() == [0, 1, 1, 0] * 3
    assert encoding.encode(known) == encoding.encode(OBS.drop(columns="donor")) == {}
    assert encoding.dims() == {} and encoding.features == ()


def test_one_donor_a_cell_raises_no_warning():
    """As in bulk data, where each sample is a donor."""
    samples = OBS.assign(sample=OBS.index)
    assert learn(samples, donor_key="sample").get(Donor).size == 12


def test_donors_that_the_fit_has_not_seen_are_groups_of_their_own():
    donor = Donor("donor", ("d2", "d4"))
    query = pd.DataFrame({"donor": ["d9", "d4", "d1", "d9", "d2"]})
    assert donor.groups(query).tolist() == [3, 1, 2, 3, 0]


def test_donors_must_be_known():
    message = refused(lambda: learn(donor_key="donor"))
    assert "obs column 'donor' must name a donor for each cell: found 2 missing" in message
    assert "first at cell 'cell2'" in message
    empty = OBS.assign(donor=None)
    assert "missing in all 12 cells" in refused(lambda: learn(empty, donor_key="donor"))
    gone = OBS.drop(columns="donor")
    assert "no column 'donor'" in refused(lambda: Donor("donor", ("d1",)).groups(gone))


def test_donors_have_one_column():
    message = refused(lambda: learn(donor_key="plate", split_key="donor"))
    assert "must name one column: got 'plate' and 'donor'" in message
    assert learn(donor_key="plate", split_key="plate") == learn(split_key="plate")
    for argument in ("donor_key", "split_key"):
        message = refused(lambda argument=argument: learn(**{argument: "plat"}))
        assert f"{argument} 'plat' is not a column of obs" in message
        assert "Did you mean 'plate'?" in message


@pytest.mark.parametrize("kind", [str, int, float, "category"])
def test_a_split_by_codes_of_donors_is_the_split_by_their_column(kind):
    drawn = pd.Series(np.random.default_rng(0).integers(0, 30, 500))
    obs = pd.DataFrame({"donor": drawn.astype(kind)})
    groups = learn(obs, donor_key="donor").get(Donor).groups(obs)
    for seed in range(3):
        one, other = grouped_split(obs["donor"], seed), grouped_split(groups, seed)
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
