"""How good a classifier is, scored as a star rating should be, and how sure of that one can be; and the baselines it
must beat.

Works on arrays of labels and logits; `classifier.evaluate` loads an adapter and reviews.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.names import MAJORITY, TFIDF
from ...core.run_report import Metrics, Reliability, ReliabilityBin
from ..data import dataset as reviews_of

Floats = NDArray[np.floating]
RESAMPLES = (
    2_000  # of the bootstrap: the ends of an interval then move by about a twentieth of its width from seed to seed
)
CELLS_AT_ONCE = 250_000
BINS = 15  # of the reliability curve
MOST_COUNTED = 20_000  # reviews that TF-IDF learns from


def softmax(logits: Floats) -> Floats:
    """Rows of `logits` (n, k) as probabilities, in float64."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def compute_metrics(
    labels: Sequence[int], logits: Floats, names: Sequence[str], ordinal: bool, seconds: float = 0.0
) -> Metrics:
    """Metrics of `logits` (n, k) against `labels` (n indices). Loss is the mean cross-entropy in nats."""
    true = np.asarray(labels, dtype=int)
    guess = np.argmax(logits, axis=1)
    probabilities = softmax(logits)
    chance = probabilities[np.arange(len(true)), true]
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (true, guess), 1)
    values = {name: float(value) for name, value in rates(confusion, ordinal).items()}
    return Metrics(
        rows=len(true),
        loss=float(-np.log(np.maximum(chance, 1e-300)).mean()),
        accuracy=values["accuracy"],
        macro_f1=values["macro_f1"],
        mae_stars=values.get("mae_stars"),
        within_one=values.get("within_one"),
        quadratic_kappa=values.get("quadratic_kappa"),
        confusion=tuple(map(tuple, confusion.tolist())),
        labels=tuple(names),
        seconds=seconds,
        intervals=intervals(confusion, ordinal),
        calibration=reliability(true, probabilities),
    )


def rates(confusion: NDArray[np.integer], ordinal: bool) -> dict[str, Floats]:
    """The metrics of confusion counts (..., true, predicted), each of shape (...); the last three where `ordinal`.

    As scikit-learn has them: macro_f1 is f1_score(average="macro") over the labels that occur, quadratic_kappa is
    cohen_kappa_score(weights="quadratic"). mae_stars is the mean distance in stars between the likeliest and the true
    label."""
    counts = np.asarray(confusion, dtype=np.float64)
    rows = counts.sum(axis=(-2, -1))
    true, guess, right = counts.sum(axis=-1), counts.sum(axis=-2), np.diagonal(counts, axis1=-2, axis2=-1)
    occurs = true > 0
    f1 = np.where(occurs, 2 * right / np.maximum(true + guess, 1), 0)
    values = {"accuracy": right.sum(axis=-1) / rows, "macro_f1": f1.sum(axis=-1) / occurs.sum(axis=-1)}
    if ordinal:
        stars = np.arange(counts.shape[-1])
        distance = np.abs(stars[:, None] - stars)
        observed = (counts * distance**2).sum(axis=(-2, -1))
        by_chance = ((true @ distance**2) * guess).sum(axis=-1) / rows
        values["mae_stars"] = (counts * distance).sum(axis=(-2, -1)) / rows
        values["within_one"] = (counts * (distance <= 1)).sum(axis=(-2, -1)) / rows
        # One class only has no kappa (0 / 0): agreement beyond chance is then none.
        values["quadratic_kappa"] = np.where(by_chance > 0, 1 - observed / np.where(by_chance > 0, by_chance, 1), 0)
    return values


def intervals(confusion: NDArray[np.integer], ordinal: bool) -> dict[str, tuple[float, float]]:
    """95 % of each metric by the percentile bootstrap over reviews (Efron 1979), always with the same resamples.

    The metrics depend on the reviews through the counts alone, and counts of reviews drawn with replacement are
    multinomial: so it is the counts that are drawn. Says what another draw of reviews would do, not what another seed
    of the training would."""
    counts = np.asarray(confusion).ravel()
    filled, rows = np.flatnonzero(counts), counts.sum()
    drawing = np.random.default_rng(0)

    def draw(times: int) -> dict[str, Floats]:
        drawn = np.zeros((times, counts.size), dtype=int)
        drawn[:, filled] = drawing.multinomial(rows, counts[filled] / rows, size=times)
        return rates(drawn.reshape(times, *np.shape(confusion)), ordinal)

    # In parts, because with a hundred labels all resamples at once would take half a gigabyte.
    part = min(RESAMPLES, max(1, CELLS_AT_ONCE // counts.size))
    parts = [draw(min(part, RESAMPLES - begun)) for begun in range(0, RESAMPLES, part)]
    ends = {name: np.quantile(np.concatenate([drawn[name] for drawn in parts]), (0.025, 0.975)) for name in parts[0]}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def reliability(labels: Sequence[int] | NDArray[np.integer], probabilities: Floats) -> Reliability:
    """How far the likeliest label's probability can be believed.

    ece is the expected calibration error of Guo et al. 2017 ("On Calibration of Modern Neural Networks", equation 3):
    the mean distance between confidence and accuracy over 15 bins of equal width, weighted by their reviews."""
    confidence = np.max(probabilities, axis=1)
    right = np.argmax(probabilities, axis=1) == np.asarray(labels)
    edges = np.linspace(0, 1, BINS + 1)
    # A bin holds its upper edge, as in the paper.
    place = np.clip(np.searchsorted(edges, confidence) - 1, 0, BINS - 1)
    bins = tuple(
        ReliabilityBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            rows=int((place == i).sum()),
            confidence=float(confidence[place == i].mean()),
            accuracy=float(right[place == i].mean()),
        )
        for i in np.unique(place)
    )
    ece = sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / len(confidence)
    return Reliability(ece=ece, bins=bins)


def write_answers(path: Path, splits: Mapping[str, tuple[reviews_of.Reviews, Floats]]) -> None:
    """One JSON line a review: {split, text, label, guess, probabilities}, labels as indices; `splits`: reviews and
    their logits (n, k).

    guess is the likeliest label as it is scored: of probabilities rounded to five digits two may be equal.
    """
    with path.open("w", encoding="utf-8") as file:
        for split, (reviews, logits) in splits.items():
            shares = softmax(logits).round(5).tolist()
            guesses = np.argmax(logits, axis=1).tolist()
            for text, label, guess, share in zip(reviews.texts, reviews.labels, guesses, shares, strict=True):
                line = {"split": split, "text": text, "label": int(label), "guess": guess, "probabilities": share}
                file.write(json.dumps(line) + "\n")


def fit_baselines(
    train: reviews_of.Reviews, names: Sequence[str], ordinal: bool
) -> Callable[[reviews_of.Reviews], dict[str, Metrics]]:
    """What a rating costs without a network, learnt from `train` and evaluated on any reviews: the commonest label, and
    TF-IDF with logistic regression on at most MOST_COUNTED reviews (`train` is shuffled): on 200,000 it would take
    longer than a GPU trains."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = np.bincount(train.labels, minlength=len(names)).astype(float)
    share = np.log(np.maximum(counts / counts.sum(), 1e-9))
    few = train.take(range(min(len(train), MOST_COUNTED)))
    counting = None
    if len(set(few.labels)) > 1:
        counting = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2 if len(few) > 500 else 1, sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000),
        )
        counting.fit(few.texts, few.labels)

    def evaluate(reviews: reviews_of.Reviews) -> dict[str, Metrics]:
        began = time.monotonic()
        results = {MAJORITY: compute_metrics(reviews.labels, np.tile(share, (len(reviews), 1)), names, ordinal)}
        if counting is not None:
            logits = np.full((len(reviews), len(names)), np.log(1e-9))
            logits[:, counting.classes_] = np.log(np.maximum(counting.predict_proba(reviews.texts), 1e-9))
            results[TFIDF] = compute_metrics(reviews.labels, logits, names, ordinal, time.monotonic() - began)
        return results

    return evaluate
