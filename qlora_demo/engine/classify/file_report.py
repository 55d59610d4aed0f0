"""What a classified file comes to: counts by label, stars and certainty, and how right the predictions are where the
file has labels.

Added up window by window, in a few bytes a row. Knows neither files nor networks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from ...core.errors import DataError
from ...core.file_report import HistogramBin
from ...core.records import Prediction
from ...core.run_report import Metrics
from ..data.columns import LabelValues, Places
from ..data.dataset import DataSet, Reviews, align_labels
from ..data.labels import find_scale
from .metrics import compute_metrics

STAR_STEP = 0.5
CERTAINTY_EDGES = np.linspace(0, 1, 11)


class Counts(TypedDict):
    """The fields of FileReport that are counted row by row."""

    classified: int
    without_prediction: dict[str, int]
    truncated: int
    ordinal: bool
    by_label: dict[str, int]
    expected_stars: tuple[HistogramBin, ...]
    certainty: tuple[HistogramBin, ...]


class Judgement(TypedDict):
    """The fields of FileReport on how right the predictions are."""

    final: dict[str, Metrics]
    judged: str


class Sums:
    """Counts over all rows, added up as they come."""

    def __init__(self, labels: Sequence[str]):
        self._labels, self._problems, self._by_label = labels, Counter[str](), Counter[str]()
        self._star_edges = np.arange(1, len(labels) + STAR_STEP, STAR_STEP)
        self._stars = np.zeros(len(self._star_edges) - 1, int)
        self._certainty = np.zeros(len(CERTAINTY_EDGES) - 1, int)
        self._truncated, self._ordinal = 0, False

    def add(self, predictions: Sequence[Prediction | None], problems: Sequence[str]) -> None:
        there = [prediction for prediction in predictions if prediction]
        self._problems.update(filter(None, problems))
        self._by_label.update(prediction.label for prediction in there)
        self._truncated += sum(prediction.truncated for prediction in there)
        expected = [prediction.expected_stars for prediction in there if prediction.expected_stars is not None]
        self._ordinal = self._ordinal or bool(expected)
        self._stars += np.histogram(np.clip(expected, 1, len(self._labels)), self._star_edges)[0]
        sure = [max(prediction.probabilities.values()) for prediction in there]
        self._certainty += np.histogram(np.clip(sure, 0, 1), CERTAINTY_EDGES)[0]

    def report(self) -> Counts:
        """What was counted."""
        return {
            "classified": sum(self._by_label.values()),
            "without_prediction": dict(self._problems),
            "truncated": self._truncated,
            "ordinal": self._ordinal,
            "by_label": {label: self._by_label[label] for label in self._labels},
            "expected_stars": _bins(self._star_edges, self._stars) if self._ordinal else (),
            "certainty": _bins(CERTAINTY_EDGES, self._certainty),
        }


def _bins(edges: Any, counts: Any) -> tuple[HistogramBin, ...]:
    return tuple(
        HistogramBin(lower=round(float(low), 3), upper=round(float(high), 3), rows=int(rows))
        for low, high, rows in zip(edges[:-1], edges[1:], counts, strict=True)
    )


class Truth:
    """The right labels beside the predictions, where the file has them: four bytes and a few a row."""

    def __init__(self, name: str, columns: Sequence[str], places: Places):
        self._name, self._column = name, columns.index(places.label) if places.label else -1
        self._label, self._values, self._problem = places.label, LabelValues(), ""
        self._codes, self._shares = array("i"), array("f")

    def add(
        self, rows: Sequence[Sequence[Any]], lines: Sequence[int], predictions: Sequence[Prediction | None]
    ) -> None:
        there = [i for i, prediction in enumerate(predictions) if prediction]
        if self._column < 0 or self._problem:
            return
        try:
            codes = self._values.codes([rows[i][self._column] for i in there], [lines[i] for i in there], self._name)
        except DataError as error:
            self._problem = str(error)
            return
        self._codes.extend(codes)
        for i in there:
            self._shares.extend(predictions[i].probabilities.values())  # type: ignore[union-attr]

    def report(self, labels: Sequence[str], ordinal: bool) -> Judgement:
        """How right the predictions are."""
        if self._column < 0:
            return {
                "final": {},
                "judged": "No column of right labels was found or named, so the predictions were not judged.",
            }
        try:
            if self._problem:
                raise DataError(self._problem)
            return self._evaluate(labels, ordinal)
        except DataError as error:
            return {"final": {}, "judged": f"The predictions were not judged by the column {self._label!r}: {error}"}

    def _evaluate(self, labels: Sequence[str], ordinal: bool) -> Judgement:
        counts = Counter(label for code in self._codes if (label := self._values.values[code]) is not None)
        scale = find_scale(counts, f"The column {self._label!r}")
        places = np.array([-1 if label is None else scale.index.get(label, -1) for label in self._values.values], int)
        right = places[np.frombuffer(self._codes, np.int32)]
        kept = np.flatnonzero(right >= 0)
        reviews = Reviews([], right[kept].tolist())
        aligned = align_labels(DataSet(self._name, scale.names, scale.ordinal, {"test": reviews}), labels).labels
        shares = np.frombuffer(self._shares, np.float32).reshape(len(self._codes), -1)[kept]
        metrics = compute_metrics(aligned, np.log(np.maximum(shares, 1e-30)), labels, ordinal)
        without = len(right) - len(kept)
        remainder = f" {without:,} more have no label, or one outside the scale." if without else ""
        return {
            "final": {"test": metrics},
            "judged": f"Judged on {len(kept):,} rows by the column {self._label!r} ({scale.rule}).{remainder}",
        }
