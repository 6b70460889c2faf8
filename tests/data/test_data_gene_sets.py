"""Gene sets: what a GMT file says comes back, what is malformed is refused in one line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pgm_expr.data import membership, read_gmt

GENES = ["CD3E", "CD3D", "MS4A1", "CD79A", "LYZ", "ISG15"]
SETS = {"T": ["CD3E", "CD3D", "CD2"], "B": ["CD79A", "MS4A1"], "T and B": ["CD3E", "CD79A"]}


@pytest.fixture
def gmt(tmp_path):
    """Writes a GMT file and returns its path."""

    def write(content):
        path = tmp_path / "sets.gmt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(call, *arguments, error=ValueError):
    """The one line that a call refuses its arguments in."""
    with pytest.raises(error) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_sets_come_back_in_order(gmt):
    lines = ["\t".join([name, "https://a.b", *genes]) for name, genes in SETS.items()]
    assert read_gmt(gmt("\n".join(lines))) == SETS
    assert list(read_gmt(str(gmt("\n".join(lines) + "\n")))) == list(SETS)


def test_what_spreadsheets_leave_behind_is_no_gene(gmt):
    """A byte order mark, Windows line ends, blank lines, empty cells, a gene written twice."""
    text = "\ufeffT\t\tCD3E\tCD3D\tCD3E\t\t\r\n\r\nB\tna\t CD79A \r\n"
    assert read_gmt(gmt(text)) == {"T": ["CD3E", "CD3D"], "B": ["CD79A"]}


@pytest.mark.parametrize(
    "content, words",
    {
        "empty": ("", ["no gene set", "empty"]),
        "blank": ("\n \n", ["no gene set"]),
        "two columns": ("T\tx\tCD3E\nB\tx\n", ["line 2", "3 columns", "2 are"]),
        "blanks for tabs": ("T x CD3E\n", ["line 1", "3 columns", "1 is"]),
        "no genes": ("T\tx\t\t\n", ["line 1", "'T' has no gene"]),
        "no name": ("\tx\tCD3E\n", ["line 1", "no name"]),
        "repeated": ("T\tx\tA\n\nT\tx\tB\n", ["line 3", "'T'", "second time"]),
        "binary": (b"T\tx\tA\n\x1f\x8b\x08\xff", ["line 2", "not text"]),
    }.values(),
    ids=lambda value: None,
)
def test_what_is_malformed_is_named_with_file_and_line(gmt, content, words):
    path = gmt(content)
    message = refused(read_gmt, path)
    assert str(path) in message and all(word in message for word in words), message


def test_a_path_that_holds_no_file(gmt, tmp_path):
    gmt("T\tx\tCD3E\n")
    assert "'sets.gmt'" in refused(read_gmt, tmp_path / "set.gmt", error=FileNotFoundError)
    assert str(tmp_path) in refused(read_gmt, tmp_path)


def test_membership_has_a_row_a_set_and_a_column_a_gene():
    names, matrix = membership(SETS, GENES, minimum=2)
    assert names == ["T", "B", "T and B"] and matrix.dtype == np.float32
    expected = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(matrix, expected)


def test_membership_of_a_file_is_that_of_its_sets(gmt):
    text = "".join("\t".join([name, "", *genes]) + "\n" for name, genes in SETS.items())
    found, expected = (membership(sets, GENES, minimum=2) for sets in (gmt(text), SETS))
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def test_sets_with_few_modelled_genes_are_left_out_with_a_warning():
    sets = SETS | {"rare": ["LYZ", "CD2"], "foreign": ["CD2"]}
    with pytest.warns(UserWarning, match="2 of 5 gene sets .* fewer than 2 .*'rare', 'foreign'"):
        names, matrix = membership(sets, GENES, minimum=2)
    assert names == list(SETS) and matrix.shape == (3, len(GENES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert membership(SETS, GENES, minimum=2)[0] == names


def test_genes_agree_to_the_letter_or_the_near_one_is_named():
    assert membership({"T": ["CD3E", "cd3d"]}, GENES, minimum=1)[1].sum() == 1
    message = refused(membership, {"T": ["CD2", "Cd3e", "Cd3d"]}, GENES)
    assert "none of the 3 genes" in message and "'Cd3e'" in message and "'CD3E'" in message


@pytest.mark.parametrize(
    "sets, words",
    {
        "no set": ({}, ["empty"]),
        "all small": (SETS, ["no gene set has 4", "6 modelled", "largest of 3 has 2"]),
        "text": ({"T": "CD3E"}, ["'T'", "list", "'CD3E'"]),
        "nothing": ({"T": None}, ["'T'", "list", "None"]),
        "numbers": ({"T": [3, 4]}, ["'T'", "list", "3"]),
        "numbered": ({3: ["CD3E"]}, ["list", "3"]),
        "no gene": ({"T": []}, ["none of the 0 genes"]),
    }.values(),
    ids=lambda value: None,
)
def test_what_cannot_be_matched_is_refused_in_one_line(sets, words):
    message = refused(membership, sets, GENES, 4)
    assert all(word in message for word in words), message
