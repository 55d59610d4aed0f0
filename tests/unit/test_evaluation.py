"""Metrics, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qlora_demo.engine import data, evaluation

STARS = tuple("12345")


def test_metrics_by_hand() -> None:
    logits = np.log(np.array([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6], [0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.6, 0.1, 0.1, 0.1]]))
    found = evaluation.judge([0, 4, 3, 4], logits, STARS, True)
    assert found.rows == 4 and found.accuracy == 0.5
    assert found.mae_stars == pytest.approx((0 + 0 + 1 + 3) / 4) and found.within_one == 0.75
    assert found.loss == pytest.approx(-(2 * math.log(0.6) + 2 * math.log(0.1)) / 4)
    assert found.confusion[3][2] == 1 and found.confusion[4] == [0, 1, 0, 0, 1] and sum(map(sum, found.confusion)) == 4
    # F1 of the classes that occur: 1 for star 1, 2 * (1 * .5) / 1.5 for star 5, 0 for star 4.
    assert found.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_perfect_and_reversed_kappa() -> None:
    eye = np.eye(5) * 10
    assert evaluation.judge(range(5), eye, STARS, True).quadratic_kappa == pytest.approx(1)
    assert evaluation.judge(range(5), eye[::-1], STARS, True).quadratic_kappa == pytest.approx(-1)


def test_no_stars_no_distances() -> None:
    found = evaluation.judge([0, 1], np.eye(2), ("no", "yes"), False)
    assert found.mae_stars is None and found.within_one is None and found.quadratic_kappa is None


def test_baselines_know_chance_and_words() -> None:
    sample = data.load("sample")
    found = evaluation.baselines(sample.splits["train"], sample.splits["test"], sample.labels, True)
    assert found["majority"].accuracy == 0.2 and found["majority"].loss == pytest.approx(math.log(5), abs=1e-3)
    assert 0.80 < found["tfidf-logistic-regression"].accuracy < 0.86


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(evaluation.softmax(np.array([[1e4, 0.0], [0.0, 0.0]])), [[1, 0], [0.5, 0.5]])
