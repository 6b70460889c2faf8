"""Probabilities of labels: the true ones, and calibrated with few and with wrong labels."""

import numpy as np
import pytest
from scipy.special import softmax

from pgm_expr.evaluation import calibration_error, excess_calibration_error, fit_classifier


def cells(seed, n=4000, classes=3, spread=1.5):
    """States around three centres; p(y | z) is known, and linear in z on the logit scale."""
    rng = np.random.default_rng(seed)
    centres = spread * np.eye(classes, 4)
    labels = rng.integers(classes, size=n)
    z = centres[labels] + rng.normal(size=(n, 4))
    truth = softmax(z @ centres.T - (centres**2).sum(1) / 2, 1)
    return z, labels, truth


def test_finds_the_true_probabilities():
    z, labels, truth = cells(0)
    found = fit_classifier(z[None], labels, classes=3).probabilities(z[None])
    assert np.abs(found - truth).mean() < 0.02
    assert np.allclose(found.sum(1), 1)


def excess_errors(noise, told):
    """Of fits to 90 labels, a share of them wrong, on cells of known label; one a seed."""
    for seed in range(5):
        z, labels, _ = cells(seed, spread=2.5)
        rng = np.random.default_rng(seed)
        known = np.full(len(z), -1)
        known[:90] = labels[:90]
        wrong = np.flatnonzero(rng.random(90) < noise)
        known[wrong] = (labels[wrong] + rng.integers(1, 3, len(wrong))) % 3
        p = fit_classifier(z[None], known, classes=3, noise=told).probabilities(z[None, 2000:])
        yield excess_calibration_error(p, labels[2000:])


def test_calibrated_with_thirty_labels_a_class():
    assert np.mean([*excess_errors(0.0, told=0.0)]) < 0.03


def test_wrong_labels_are_allowed_for():
    told, not_told = (np.mean([*excess_errors(0.2, told=told)]) for told in (0.2, 0.0))
    assert told < 0.05 and not_told > 2 * told


def test_noise_that_is_not_told_looks_like_doubt():
    """The same wrong labels: who is told of them is surer."""
    z, labels, _ = cells(0, spread=4.0)
    known = labels.copy()
    wrong = np.random.default_rng(0).random(len(z)) < 0.2
    known[wrong] = (labels[wrong] + 1) % 3
    told, not_told = (
        fit_classifier(z[None], known, classes=3, noise=noise).probabilities(z[None]).max(1).mean()
        for noise in (0.2, 0.0)
    )
    assert told > not_told + 0.1


def test_finds_the_true_probabilities_from_wrong_labels():
    """A third of them, of which the fit is told."""
    z, labels, truth = cells(0, n=20000, spread=2.5)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(z)) < 1 / 3
    known = np.where(wrong, (labels + rng.integers(1, 3, len(z))) % 3, labels)
    found = fit_classifier(z[None], known, classes=3, noise=1 / 3).probabilities(z[None])
    assert np.abs(found - truth).mean() < 0.01


def test_few_labels_without_an_error_make_nobody_certain():
    """Five a class, which a plane separates: no fit costs fresh cells more than to guess."""
    for seed in range(10):
        z, labels, _ = cells(seed, spread=2.5)
        known = np.full(len(z), -1)
        for kind in range(3):
            known[np.flatnonzero(labels == kind)[:5]] = kind
        p = fit_classifier(z[None], known, classes=3).probabilities(z[None])
        assert -np.log(p[np.arange(len(z)), labels]).mean() < np.log(3)


def test_a_class_of_one_label_is_possible():
    z, labels, _ = cells(0, n=300)
    single = np.flatnonzero(labels == 2)[0]
    known = np.where((labels == 2) & (np.arange(300) != single), -1, labels)
    p = fit_classifier(z[None], known, classes=3).probabilities(z[None])
    assert (p[:, 2] > 0).all() and np.allclose(p.sum(1), 1)


def test_draws_are_averaged():
    z, labels, _ = cells(0, n=500)
    fitted = fit_classifier(z[None], labels, classes=3)
    draws = np.stack([z, z + 1, z - 1])
    each = np.mean([fitted.probabilities(draw[None]) for draw in draws], 0)
    assert np.allclose(fitted.probabilities(draws), each)


def test_a_dimension_that_holds_nothing_changes_nothing():
    """Means that scatter by .01 around 0 while each draw scatters by 1."""
    z, labels, truth = cells(0, n=1000)
    rng = np.random.default_rng(0)
    draws = np.repeat(z[None], 20, 0)
    empty = 0.01 * rng.normal(size=(1, 1000, 3)) + rng.normal(size=(20, 1000, 3))
    known = np.where(np.arange(1000) < 100, labels, -1)
    plain, padded = (
        fit_classifier(d, known, classes=3).probabilities(d)
        for d in (draws, np.concatenate([draws, empty], -1))
    )
    assert np.abs(plain - padded).mean() < 0.02


def test_classes_without_labels_have_probability_zero():
    z, labels, _ = cells(0, n=300)
    p = fit_classifier(z[None], np.where(labels == 1, -1, labels), classes=3).probabilities(
        z[None]
    )
    assert (p[:, 1] == 0).all() and np.allclose(p.sum(1), 1)


def test_two_classes_and_certain_ones():
    z, labels, truth = cells(0, classes=2)
    found = fit_classifier(z[None], labels, classes=2).probabilities(z[None])
    assert np.abs(found - truth).mean() < 0.02
    apart = fit_classifier(100 * z[None], labels, classes=2).probabilities(1e4 * z[None])
    assert np.isfinite(apart).all() and apart.max() == 1


def test_too_few_labels_are_refused():
    z, labels, _ = cells(0, n=20)
    few = np.full(20, -1)
    few[[0, 1]] = labels[0]
    with pytest.raises(ValueError, match="two labelled cells in each of two classes"):
        fit_classifier(z[None], few, classes=3)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.35, 0.65]])
    labels = np.array([0, 1, 0, 0])
    # bins [.9, 1]: |.5 - .9| of 2 cells; [.6, .7): |.5 - .625| of 2 cells
    assert np.isclose(calibration_error(p, labels), 0.5 * 0.4 + 0.5 * 0.125)


def test_labels_drawn_from_the_probabilities_have_no_excess():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0, 1.0], 2000)
    labels = (rng.random((2000, 1)) > p.cumsum(1)).sum(1)
    assert abs(excess_calibration_error(p, labels)) < 0.015
    sure = np.eye(3)[p.argmax(1)] * 0.98 + 0.02 / 3
    assert excess_calibration_error(sure, labels) > 0.2
