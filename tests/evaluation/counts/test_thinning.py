"""Two halves of the counts of each cell."""

import pytest
import torch

from pgm_expr.evaluation.counts.thinning import halves

MEANS = torch.tensor([0.5, 2.0, 80.0])


def batch(cells=20_000):
    torch.manual_seed(0)
    x = torch.poisson(MEANS.expand(cells, -1)) + 1.0 * (torch.arange(3) == 2)
    return {"x": x, "library": x.sum(-1, keepdim=True), "index": torch.arange(cells)}


def test_halves_sum_to_the_cell_and_carry_their_own_libraries():
    whole = batch(50)
    ((first, second),) = halves([whole])
    assert torch.equal(first["x"] + second["x"], whole["x"])
    for half in (first, second):
        assert torch.equal(half["library"], half["x"].sum(-1, keepdim=True))
        assert half["x"].ge(0).all() and torch.equal(half["index"], whole["index"])


def test_halves_of_poisson_counts_are_independent_and_of_the_stated_mean():
    """Within four standard errors; the halves of a cell of fixed counts would not be."""
    ((first, second),) = halves([batch()], share=0.25)
    a, b = first["x"][:, :2], second["x"][:, :2]
    error = len(a) ** -0.5
    assert (a.mean(0) - 0.25 * MEANS[:2]).abs().max() < 4 * error * MEANS[1].sqrt()
    for gene in (0, 1):
        assert torch.corrcoef(torch.stack([a[:, gene], b[:, gene]]))[0, 1].abs() < 4 * error


def test_the_same_halves_each_time():
    first, again = (next(halves([batch(30)]))[0]["x"] for _ in range(2))
    assert torch.equal(first, again)


def test_a_cell_too_thin_to_be_halved_is_said():
    thin = {"x": torch.tensor([[1.0, 0.0]]), "library": torch.ones(1, 1)}
    with pytest.raises(ValueError, match="1 cells have no count in one half"):
        next(halves([thin]))


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1: got 1"):
        next(halves([batch(3)], share=1))


def test_a_half_without_a_count_is_allowed_on_request():
    whole = {"x": torch.eye(40, 3), "library": torch.ones(40, 1)}
    ((first, second),) = halves([whole], empty=True)
    assert (first["x"].sum(-1) == 0).any()
    assert (first["library"] == 1).all() and (second["library"] == 1).all()
