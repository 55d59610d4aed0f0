"""Judges settings for the shipped adapter on real validation reviews: repeats and extends the table in
sample_adapter.md.

`python -m benchmarks.sample_adapter_search REAL_VALIDATION --seeds 42 43 --set epochs=3 dropout=0.1` trains once a
seed, starting from SETTINGS of sample_adapter.py, and prints one row. It reads no result on a test split, and does not
know which row is best."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from qlora_demo.core.config import RunConfig
from qlora_demo.core.run_report import Metrics
from qlora_demo.engine import quiet
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.metrics import compute_metrics
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.train import run

from .sample_adapter import SETTINGS


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge settings for the shipped adapter.")
    parser.add_argument("real_reviews", help="Real reviews for validation.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="name=value", help="Changes to SETTINGS."
    )
    options = parser.parse_args()
    quiet()
    changes = dict(item.split("=", 1) for item in options.settings)
    runs = [
        train_and_judge(RunConfig.read(SETTINGS.to_dict() | changes | {"seed": seed}), options.real_reviews)
        for seed in options.seeds
    ]
    print(row(", ".join(options.settings) or "SETTINGS", options.seeds, runs))


def train_and_judge(config: RunConfig, real_reviews: str) -> tuple[Metrics, Metrics]:
    """Metrics of one training on (real reviews, the sample's validation reviews)."""
    with tempfile.TemporaryDirectory() as place:
        run.train(config, Path(place), lambda _: None, lambda: False)
        classifier = Classifier(str(Path(place) / "adapter"))
        real = reviews_of.align_labels(reviews_of.load_rows(real_reviews), classifier.labels)
        sample = reviews_of.load(config.data).splits["validation"]
        return judged(classifier, real), judged(classifier, sample)


def judged(classifier: Classifier, reviews: reviews_of.Reviews) -> Metrics:
    return compute_metrics(reviews.labels, classifier.logits(reviews.texts), classifier.labels, classifier.ordinal)


def row(name: str, seeds: list[int], runs: list[tuple[Metrics, Metrics]]) -> str:
    """One line of the table: means over the seeds, and each seed's accuracy on real reviews."""
    real, sample = zip(*runs, strict=True)
    each = " ".join(f"{metrics.accuracy:.3f}" for metrics in real)
    means = (
        np.mean([m.accuracy for m in real]),
        np.mean([m.mae_stars for m in real]),
        np.mean([m.accuracy for m in sample]),
    )
    return f"| {name} | {' '.join(map(str, seeds))} | {means[0]:.3f} ({each}) | {means[1]:.3f} | {means[2]:.3f} |"


if __name__ == "__main__":
    main()
