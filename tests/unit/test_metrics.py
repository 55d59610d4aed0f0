"""Metrics, against numbers worked out by hand and scikit-learn's; their intervals, against a plain bootstrap."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from qlora_demo.engine.classify import metrics
from qlora_demo.engine.data import dataset
from qlora_demo.jobs.store import Job

STARS = tuple("12345")


def test_metrics_by_hand() -> None:
    logits = np.log(0.1 + 0.5 * np.eye(5)[[0, 4, 2, 1]])
    found = metrics.compute_metrics([0, 4, 3, 4], logits, STARS, True)
    assert found.rows == 4 and found.accuracy == 0.5
    assert found.mae_stars == pytest.approx((0 + 0 + 1 + 3) / 4) and found.within_one == 0.75
    assert found.loss == pytest.approx(-(2 * math.log(0.6) + 2 * math.log(0.1)) / 4)
    assert found.confusion[3][2] == 1 and found.confusion[4] == (0, 1, 0, 0, 1) and sum(map(sum, found.confusion)) == 4
    # F1 of the classes that occur: 1 for star 1, 2 * (1 * .5) / 1.5 for star 5, 0 for star 4.
    assert found.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_perfect_and_reversed_kappa() -> None:
    eye = np.eye(5) * 10
    assert metrics.compute_metrics(range(5), eye, STARS, True).quadratic_kappa == pytest.approx(1)
    assert metrics.compute_metrics(range(5), eye[::-1], STARS, True).quadratic_kappa == pytest.approx(-1)


def test_no_stars_no_distances() -> None:
    found = metrics.compute_metrics([0, 1], np.eye(2), ("no", "yes"), False)
    assert found.mae_stars is None and found.within_one is None and found.quadratic_kappa is None


def test_baselines_know_chance_and_words() -> None:
    sample = dataset.load("sample")
    found = metrics.fit_baselines(sample.splits["train"], sample.labels, True)(sample.splits["test"])
    assert found["majority"].accuracy == 0.2 and found["majority"].loss == pytest.approx(math.log(5), abs=1e-3)
    assert 0.80 < found["tfidf-logistic-regression"].accuracy < 0.86


def draw(labels: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of a classifier that is right about two times of three; the last label does not occur."""
    drawing = np.random.default_rng(seed)
    true = drawing.integers(0, labels - 1, rows)
    return true, drawing.normal(0, 1.6, (rows, labels)) - 1.2 * np.abs(np.arange(labels) - true[:, None])


@pytest.mark.parametrize(("labels", "rows"), [(2, 30), (5, 400), (20, 300)])
def test_metrics_of_many_matrices_at_once_are_scikit_learns(labels: int, rows: int) -> None:
    drawing = np.random.default_rng(1)
    true, logits = draw(labels, rows)
    guess, classes = logits.argmax(axis=1), list(range(labels))
    samples = drawing.integers(0, rows, (20, rows))
    matrices = np.array([confusion_matrix(true[rows], guess[rows], labels=classes) for rows in samples])
    found = metrics.rates(matrices, True)
    for i, rows_of in enumerate(samples):
        t, g = true[rows_of], guess[rows_of]
        assert found["accuracy"][i] == pytest.approx(accuracy_score(t, g))
        f1 = f1_score(t, g, labels=sorted(set(t)), average="macro", zero_division=0)
        assert found["macro_f1"][i] == pytest.approx(f1)
        assert found["mae_stars"][i] == pytest.approx(np.abs(t - g).mean())
        assert found["within_one"][i] == pytest.approx((np.abs(t - g) <= 1).mean())
        kappa = cohen_kappa_score(t, g, labels=classes, weights="quadratic") if len({*t, *g}) > 1 else 0
        assert found["quadratic_kappa"][i] == pytest.approx(kappa)


def test_intervals_are_those_of_a_bootstrap_over_reviews() -> None:
    true, logits = draw(5, 400)
    found = metrics.compute_metrics(true, logits, STARS, True)
    drawing, guess = np.random.default_rng(7), logits.argmax(axis=1)
    samples = drawing.integers(0, 400, (3000, 400))
    plain = {
        "accuracy": (true == guess)[samples].mean(axis=1),
        "mae_stars": np.abs(true - guess)[samples].mean(axis=1),
        "within_one": (np.abs(true - guess) <= 1)[samples].mean(axis=1),
    }
    for name, values in plain.items():
        low, high = np.quantile(values, (0.025, 0.975))
        assert found.intervals[name] == pytest.approx((low, high), abs=0.1 * (high - low))
    assert found.intervals.keys() == {"accuracy", "macro_f1", "mae_stars", "within_one", "quadratic_kappa"}
    assert all(low < getattr(found, name) < high for name, (low, high) in found.intervals.items())
    assert metrics.compute_metrics(true, logits, STARS, True).intervals == found.intervals, "another interval"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 300 draws of 200 reviews each; 95 % of them would be 285, and three standard errors below are 274."""
    true, logits = draw(5, 40_000)
    guess = logits.argmax(axis=1)
    truth = metrics.rates(confusion_matrix(true, guess, labels=range(5)), True)
    samples = np.random.default_rng(3).integers(0, 40_000, (300, 200))
    held = dict.fromkeys(truth, 0)
    for sample in samples:
        found = metrics.intervals(confusion_matrix(true[sample], guess[sample], labels=range(5)), True)
        for name, (low, high) in found.items():
            held[name] += low <= truth[name] <= high
    assert all(count >= 270 for count in held.values()), held


def test_intervals_where_nothing_varies_and_with_many_labels() -> None:
    always = metrics.compute_metrics([2] * 50, np.tile(np.eye(5)[2], (50, 1)), STARS, True)
    assert always.intervals["accuracy"] == (1, 1) and always.quadratic_kappa == 0
    assert always.intervals["quadratic_kappa"] == (0, 0)
    true, logits = draw(150, 400)
    many = metrics.compute_metrics(true, logits, [str(i) for i in range(150)], False)
    assert many.intervals.keys() == {"accuracy", "macro_f1"} and many.intervals["accuracy"][0] < many.accuracy
    json.dumps(many.to_dict(), allow_nan=False)


def test_what_is_written_of_each_review(tmp_path: Path) -> None:
    reviews = dataset.Reviews(['<b>"fine"\u2028 \U0001f600</b>', "מצוין"], [1, 0])
    metrics.write_answers(tmp_path / "answers.jsonl", {"test": (reviews, np.log([[0.25, 0.75], [0.123456, 0.876544]]))})
    assert Job(tmp_path).answers() == [
        {"split": "test", "text": reviews.texts[0], "label": 1, "guess": 1, "probabilities": [0.25, 0.75]},
        {"split": "test", "text": reviews.texts[1], "label": 0, "guess": 1, "probabilities": [0.12346, 0.87654]},
    ]
    assert Job(tmp_path / "absent").answers() == []
