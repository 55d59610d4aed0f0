"""How good a classifier is, judged as a star rating should be; and the baselines it must beat.

Works on arrays of labels and logits; `evaluate` is the one function that loads an adapter and reviews.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..records import Metrics
from . import data as reviews_of

Floats = NDArray[np.floating]


def softmax(logits: Floats) -> Floats:
    """Rows of `logits` (n, k) as probabilities, in float64."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def judge(labels: Sequence[int], logits: Floats, names: Sequence[str], ordinal: bool, seconds: float = 0.0) -> Metrics:
    """Metrics of `logits` (n, k) against `labels` (n indices).

    Loss is the mean cross-entropy in nats. mae_stars is the mean distance in stars between the likeliest and the true label;
    quadratic_kappa is Cohen's kappa with quadratic weights (scikit-learn's cohen_kappa_score).
    """
    from sklearn.metrics import cohen_kappa_score, f1_score

    true = np.asarray(labels, dtype=int)
    guess = np.argmax(logits, axis=1)
    chance = softmax(logits)[np.arange(len(true)), true]
    distance = np.abs(guess - true)
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (true, guess), 1)
    classes = list(range(len(names)))
    kappa = cohen_kappa_score(true, guess, labels=classes, weights="quadratic") if ordinal else None
    return Metrics(
        rows=len(true),
        loss=float(-np.log(np.maximum(chance, 1e-300)).mean()),
        accuracy=float((guess == true).mean()),
        macro_f1=float(f1_score(true, guess, labels=sorted(set(true)), average="macro", zero_division=0)),
        mae_stars=float(distance.mean()) if ordinal else None,
        within_one=float((distance <= 1).mean()) if ordinal else None,
        # One class only has no kappa (0 / 0): agreement beyond chance is then none.
        quadratic_kappa=None if kappa is None else float(np.nan_to_num(kappa)),
        confusion=confusion.tolist(),
        labels=list(names),
        seconds=seconds,
    )


def baselines(train: reviews_of.Reviews, test: reviews_of.Reviews, names: Sequence[str], ordinal: bool) -> dict[str, Metrics]:
    """What a rating costs without a network: the commonest label, and TF-IDF with logistic regression, both learnt from `train`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = np.bincount(train.labels, minlength=len(names)).astype(float)
    share = np.log(np.maximum(counts / counts.sum(), 1e-9))
    result = {"majority": judge(test.labels, np.tile(share, (len(test), 1)), names, ordinal)}
    if len(set(train.labels)) > 1:
        began = time.monotonic()
        pipeline = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2 if len(train) > 500 else 1, sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000),
        )
        pipeline.fit(train.texts, train.labels)
        logits = np.full((len(test), len(names)), np.log(1e-9))
        logits[:, pipeline.classes_] = np.log(np.maximum(pipeline.predict_proba(test.texts), 1e-9))
        result["tfidf-logistic-regression"] = judge(test.labels, logits, names, ordinal, time.monotonic() - began)
    return result


def evaluate(
    adapter: str,
    data: str,
    *,
    base: bool = False,
    data_config: str = "",
    split: str = "",
    revision: str = "",
    columns: reviews_of.Columns | None = None,
    runs_home: Path | None = None,
) -> Metrics:
    """`adapter` (or, with `base`, the untrained head without LoRA) judged on `data`. Raises DataError, AdapterError, HubError."""
    from .inference import Classifier

    found = reviews_of.load_rows(data, config=data_config, revision=revision, split=split, columns=columns or reviews_of.Columns())
    classifier = Classifier(adapter, runs_home=runs_home)
    rows = reviews_of.align_labels(found, classifier.labels)
    began = time.monotonic()
    logits = classifier.logits(rows.texts, base=base)
    return judge(rows.labels, logits, classifier.labels, classifier.ordinal, time.monotonic() - began)
