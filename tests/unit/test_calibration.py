"""Temperature scaling, on logits whose right temperature is known; and a classifier that answers by it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qlora_demo.core.paths import ASSETS
from qlora_demo.engine.classify import calibration, metrics
from qlora_demo.engine.classify import classifier as inference


def draw(temperature: float, rows: int = 4000, seed: int = 0) -> tuple[list[int], Any]:
    """Labels drawn from the shares that logits / `temperature` tell: with that temperature they are honest."""
    drawing = np.random.default_rng(seed)
    logits = drawing.normal(0, 2, (rows, 5)) * temperature
    shares = metrics.softmax(logits / temperature)
    labels = (drawing.random((rows, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return labels.clip(0, 4).tolist(), logits


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_right_temperature_is_found(temperature: float) -> None:
    labels, logits = draw(temperature)
    found = calibration.fit_temperature(labels, logits)
    assert found == pytest.approx(temperature, rel=0.06)
    around = [calibration.cross_entropy(labels, logits, found * factor) for factor in (0.98, 1, 1.02)]
    assert min(around) == around[1]


def test_where_there_is_no_best_temperature_it_stays_within_bounds() -> None:
    right = np.eye(5) * 3
    # Colder is always better, until the loss is nothing at all.
    assert calibration.LOWEST <= calibration.fit_temperature(range(5), right) < 0.1
    assert calibration.fit_temperature(range(5), -right) == pytest.approx(calibration.HIGHEST, rel=1e-3)
    # All the same, whatever the temperature: any is right, none may be without bounds.
    assert calibration.LOWEST <= calibration.fit_temperature([0, 1], np.zeros((2, 5))) <= calibration.HIGHEST
    assert math.isfinite(calibration.fit_temperature([0, 1], np.array([[1e4, 0], [0, 1e4]])))


def test_calibration_is_judged_on_other_reviews() -> None:
    (labels, logits), (test_labels, test_logits) = draw(2.5), draw(2.5, seed=1)
    found = calibration.calibrate(labels, logits, test_labels, test_logits)
    assert found.split == "validation" and found.temperature == calibration.fit_temperature(labels, logits)
    assert found.ece_before > 0.1 > 0.03 > found.ece_after and found.loss_after < found.loss_before
    before = metrics.compute_metrics(test_labels, test_logits, "12345", True)
    assert found.loss_before == pytest.approx(before.loss) and found.ece_before == before.calibration.ece
    assert sum(one.rows for one in found.bins_after) == len(test_labels)


def test_bins_by_hand() -> None:
    shares = np.array([[0.7, 0.3], [0.7, 0.3], [0.62, 0.38], [1.0, 0.0]])
    found = metrics.reliability([0, 1, 1, 0], shares)
    bins = [(round(15 * one.lower), one.rows, one.accuracy) for one in found.bins]
    assert bins == [(9, 1, 0.0), (10, 2, 0.5), (14, 1, 1.0)]
    assert found.bins[1].confidence == pytest.approx(0.7)
    assert found.ece == pytest.approx((1 * 0.62 + 2 * 0.2 + 1 * 0) / 4)


def test_a_classifier_divides_by_its_runs_temperature(tmp_path: Path) -> None:
    texts = ["Great sound, but the battery barely lasts an afternoon.", "Broke after two days."]
    adapter = shutil.copytree(ASSETS / "adapter", tmp_path / "adapter")
    report = json.loads((adapter / "report.json").read_text())
    (adapter / "report.json").write_text(json.dumps({**report, "calibration": {"temperature": 2.5}}))
    classifier = inference.Classifier(str(adapter), on_cpu=True)
    plain, calibrated = classifier.classify(texts), classifier.classify(texts, calibrated=True)
    logits = classifier.logits(texts)
    for i in range(2):
        assert list(plain[i].probabilities.values()) == metrics.softmax(logits)[i].tolist()
        assert list(calibrated[i].probabilities.values()) == metrics.softmax(logits / 2.5)[i].tolist()
        assert calibrated[i].label == plain[i].label and calibrated[i].expected_stars != plain[i].expected_stars
    # It is not the untrained head's temperature.
    assert classifier.classify(texts, base=True, calibrated=True) == classifier.classify(texts, base=True)


@pytest.mark.parametrize("found", [None, "x", 0, -1, math.nan, math.inf, {}])
def test_a_report_without_a_temperature_that_could_be_used(tmp_path: Path, found: Any) -> None:
    assert inference.read_temperature(tmp_path) is None
    (tmp_path / "report.json").write_text(json.dumps({"calibration": {"temperature": found}}))
    assert inference.read_temperature(tmp_path) is None
