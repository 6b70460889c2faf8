import numpy as np
import pytest
from scipy import sparse

from pgm_expr.evaluation.latent.probes import pca, probe

SCORES = ("accuracy", "balanced_accuracy", "macro_f1")


def draw_counts(cells, seed, genes=40):
    mean = np.geomspace(0.1, 10, genes)
    rng = np.random.default_rng(seed)
    return rng.poisson(mean * rng.gamma(2.0, 0.5, (cells, genes)))


def draw_blobs(cells, seed, distance=20.0, classes=3):
    """Unit normal clouds, each `distance` out along its own axis."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=cells)
    return rng.normal(size=(cells, classes)) + distance * np.eye(classes)[labels], labels


def test_separable_classes_are_read_without_error():
    result = probe(*draw_blobs(300, 1), *draw_blobs(200, 2))
    assert [result[key] for key in SCORES] == [1.0, 1.0, 1.0]
    assert (result["classes"], result["cells"]) == (3, 200)


# 4 standard errors of a share over 4,000 cells: fails for 1 seed in 16,000.
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_noise_scores_no_better_than_the_majority(share):
    rng = np.random.default_rng(0)
    z, z_test = rng.normal(size=(2, 4000, 2))
    y, y_test = (rng.random((2, 4000)) < share).astype(int)
    result = probe(z, y, z_test, y_test)
    error = np.sqrt(share * (1 - share) / 4000)
    assert abs(result["accuracy"] - (1 - share)) < 4 * error
    assert abs(result["majority_accuracy"] - (1 - share)) < 4 * error
    assert abs(result["balanced_accuracy"] - 0.5) < 4 * np.sqrt(0.25 / 4000)


def test_a_small_class_is_not_counted():
    corners = 10.0 * np.eye(3)
    train_labels = np.repeat([0, 1, 2], [20, 30, 20])
    labels = np.repeat([0, 1, 2], [6, 5, 4])
    guesses = np.array([0, 0, 0, 0, 0, 1] + [1] * 5 + [2, 2, 0, 0])  # where the cells stand
    result = probe(corners[train_labels], train_labels, corners[guesses], labels)
    assert result["accuracy"] == pytest.approx(12 / 15)
    assert result["majority_accuracy"] == pytest.approx(5 / 15)
    assert result["balanced_accuracy"] == pytest.approx((5 / 6 + 5 / 5) / 2)
    # Class 0: 5 right, 2 cells of class 2 taken for it, 1 missed. Class 1: 5 right, 1 taken.
    assert result["macro_f1"] == pytest.approx((10 / (10 + 2 + 1) + 10 / (10 + 1)) / 2)
    assert result["classes"] == 2

    everyone = probe(corners[train_labels], train_labels, corners[guesses], labels, minimum=4)
    assert everyone["balanced_accuracy"] == pytest.approx((5 / 6 + 5 / 5 + 2 / 4) / 3)
    assert everyone["classes"] == 3


def test_a_class_that_training_never_saw_counts_as_missed():
    (z, y), (z_test, y_test) = draw_blobs(300, 1), draw_blobs(300, 2)
    result = probe(z[y < 2], y[y < 2], z_test, y_test)
    assert result["balanced_accuracy"] == pytest.approx(2 / 3)
    assert result["classes"] == 3


def test_unlabelled_cells_are_left_out():
    (z, y), (z_test, y_test) = draw_blobs(200, 5, 2.0), draw_blobs(100, 6, 2.0)
    stray, unknown = np.full((50, 3), 1e3), np.full(50, -1)
    train = np.vstack([z, stray]), np.append(y, unknown)
    test = np.vstack([z_test, stray]), np.append(y_test, unknown)
    assert probe(*train, *test) == probe(z, y, z_test, y_test)


def test_units_of_a_latent_do_not_matter():
    (z, y), (z_test, y_test) = draw_blobs(300, 3, 2.0), draw_blobs(300, 4, 2.0)
    units = np.array([1e-4, 1.0, 1e4])
    plain = probe(z, y, z_test, y_test)
    assert 0.5 < plain["accuracy"] < 1
    assert probe(z * units + 7, y, z_test * units + 7, y_test) == pytest.approx(plain)


def test_test_cells_do_not_move_the_scaling():
    (z, y), (near, near_y) = draw_blobs(300, 7, 2.0), draw_blobs(300, 8, 2.0)
    far, far_y = draw_blobs(60, 9, 1e3)
    both = probe(z, y, np.vstack([near, far]), np.append(near_y, far_y))
    apart = [probe(z, y, near, near_y), probe(z, y, far, far_y)]
    right = [result["accuracy"] * result["cells"] for result in (both, *apart)]
    assert right[0] == pytest.approx(right[1] + right[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros(40, int)}, "one class, 0"),
        ({"train_labels": np.full(40, -1)}, "none of 40 training cells"),
        ({"test_labels": np.full(40, -1)}, "none of 40 test cells"),
        ({"test": np.full((40, 2), np.nan)}, "test latents are not finite in 40 cells"),
        ({"train": np.full((40, 2), np.inf)}, "training latents are not finite"),
        ({"test": np.zeros((40, 3))}, "2 dimensions, test latents 3"),
        ({"test": np.zeros((39, 2))}, r"\(39, 2\) and \(40,\)"),
        ({"train_labels": np.array(["a", "b"] * 20)}, "integer codes: got <U1"),
        ({"minimum": 21}, "no class has 21 test cells: the largest has 20"),
    ],
)
def test_what_cannot_be_probed_is_named_and_never_scored(change, message):
    z, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    valid = {"train": z, "train_labels": y, "test": z, "test_labels": y}
    with pytest.raises(ValueError, match=message):
        probe(**valid | change)


def test_pca_is_the_svd_of_centred_log_values():
    train, test = draw_counts(60, 1), draw_counts(20, 2)
    logs = [np.log1p(1e4 * x / x.sum(1, keepdims=True)) for x in (train, test)]
    axes = np.linalg.svd(logs[0] - logs[0].mean(0))[2][:5]
    for ours, log in zip(pca(train, test, size=5), logs, strict=True):
        expected = (log - logs[0].mean(0)) @ axes.T
        np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=1e-8)


def test_pca_takes_sparse_counts_and_its_seed_decides():
    train, test = draw_counts(60, 1), draw_counts(20, 2)
    dense = pca(train, test)
    for form in (sparse.csr_matrix, sparse.csc_array):
        for ours, expected in zip(pca(form(train), form(test)), dense, strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_other_cells_do_not_move_the_components():
    train, test = draw_counts(60, 1), draw_counts(20, 2)
    alone = pca(train)[0]
    np.testing.assert_array_equal(pca(train, test)[0], alone)
    changed = test.copy()
    changed[1:] *= np.arange(40)
    ours, others = pca(train, changed)
    np.testing.assert_array_equal(ours, alone)
    np.testing.assert_allclose(others[0], pca(train, test)[1][0], atol=1e-12)


def test_depth_does_not_move_a_projection():
    train, test = draw_counts(60, 1), draw_counts(20, 2)
    np.testing.assert_allclose(pca(train, 3 * test)[1], pca(train, test)[1], atol=1e-10)


def test_a_cell_without_counts_projects_as_zeros():
    train = draw_counts(60, 1)
    axes_at_zero = pca(train, np.zeros((1, 40), int))[1]
    mean = np.log1p(1e4 * train / train.sum(1, keepdims=True)).mean(0)
    assert np.isfinite(axes_at_zero).all()
    assert np.linalg.norm(axes_at_zero) <= np.linalg.norm(mean)


@pytest.mark.parametrize("size", [0, 40, 60])
def test_pca_refuses_as_many_components_as_genes(size):
    with pytest.raises(ValueError, match=f"got {size}"):
        pca(draw_counts(60, 1), size=size)
