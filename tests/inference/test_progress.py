"""The progress bar of a fit passes rows on, and draws on stderr alone."""

import pytest

from pgm_expr.inference.progress import bar


def history(epochs, warmup=3):
    return [
        dict(
            epoch=e,
            beta=1.0 if e >= warmup else 0.5,
            train=100 - e,
            validation=-100 + e - 0.3 * max(e - 6, 0) ** 2 + 50 * (e == 1),
            skipped=0,
            seconds=2.0,
        )
        for e in range(epochs)
    ]


@pytest.mark.parametrize("show", [True, False])
def test_the_bar_passes_the_rows_on(show, capsys):
    rows = history(5)
    passed = list(bar(iter(rows), 5, show=show))
    assert all(one is other for one, other in zip(passed, rows, strict=True))
    out, err = capsys.readouterr()
    assert out == "" and ("nats/cell" in err) is show


def test_the_bar_shows_the_best_and_ends_early(capsys):
    """Fewer rows than planned: early stopping leaves a full bar, not a broken one."""
    assert len(list(bar(history(12), 400, show=True))) == 12
    err = capsys.readouterr().err
    assert "12/12" in err and "best -49.00" in err and "validation -96.50" in err


def test_the_bar_runs_no_further_than_requested():
    drawn = []
    rows = (drawn.append(row["epoch"]) or row for row in history(5))
    passed = bar(rows, 5, show=False)
    next(passed), next(passed)
    passed.close()
    assert drawn == [0, 1]


def test_the_bar_hands_on_an_error():
    def failing():
        yield from history(2)
        raise FloatingPointError("non-finite")

    with pytest.raises(FloatingPointError, match="non-finite"):
        list(bar(failing(), 5, show=False))
