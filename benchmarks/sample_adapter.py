"""Trains the adapter that is shipped in assets/adapter and measures it: `python -m benchmarks.sample_adapter
[REAL_REVIEWS]`.

REAL_REVIEWS is a file of real reviews that stand in no training set; without one their table is left out.
Knows nothing of why these settings: sample_adapter.md says it, and sample_adapter_search.py can try others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DemoError
from qlora_demo.core.paths import ASSETS
from qlora_demo.core.records import Evaluation, Event, Step
from qlora_demo.core.run_report import Metrics, RunReport
from qlora_demo.engine import quiet
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.metrics import compute_metrics, fit_baselines
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.train import run
from qlora_demo.hub.card import write_card
from qlora_demo.jobs import fresh_process
from qlora_demo.jobs.malloc import TUNABLES, with_malloc_settings

SETTINGS = RunConfig(data="sample-mix", epochs=3, learning_rate=1e-3, seed=42)

ROOT = Path(__file__).resolve().parents[1]
REAL_REVIEWS = ROOT.parent / "shared" / "data" / "real_reviews_test.jsonl"
TFIDF = "tfidf-logistic-regression"
RESAMPLES = 10_000


def main(arguments: list[str] | None = None) -> int:
    """0 with a new adapter in place; 1 with the old one untouched."""
    parser = argparse.ArgumentParser(description="Train and measure the adapter in assets/adapter.")
    parser.add_argument(
        "real_reviews", nargs="?", type=Path, default=REAL_REVIEWS, help="A file with real reviews to be judged on."
    )
    real_reviews = parser.parse_args(arguments).real_reviews
    if not real_reviews.is_file():
        print(f"There is no file {real_reviews}: the new report and card will have no table of real reviews.")
    quiet()
    torch.set_num_threads(1)  # sums in another order give other weights; one thread, every machine has
    with tempfile.TemporaryDirectory() as place:
        try:
            run.train(SETTINGS, Path(place), show, lambda: False, call=fresh_process.call)
            adapter = Path(place) / "adapter"
            finish(adapter, real_reviews if real_reviews.is_file() else None)
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1
        replace_folder(adapter, ASSETS / "adapter")
    print((ASSETS / "adapter" / "README.md").read_text())
    return 0


def show(event: Event) -> None:
    if isinstance(event, Step) and event.step % 50 == 0:
        print(f"step {event.step}: loss {event.loss:.3f}, {event.reviews_per_second:.0f} reviews/s", flush=True)
    if isinstance(event, Evaluation):
        print(f"step {event.step}, {event.split}: accuracy {event.accuracy:.3f}, loss {event.loss:.3f}", flush=True)


def finish(adapter: Path, real_reviews: Path | None) -> None:
    """Measures the saved `adapter` as anybody would who loads it, and writes that into its report and card."""
    report = json.loads((adapter / "report.json").read_text())
    sources = {"sample test": "sample"} | ({"real reviews test": str(real_reviews)} if real_reviews else {})
    classifier = Classifier(str(adapter))
    report["measured"] = {name: measure(classifier, source) for name, source in sources.items()}
    (adapter / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    note = classifier.note
    card = write_card(RunReport.model_validate(report), note.base_name, licence="apache-2.0", revision=note.revision)
    (adapter / "README.md").write_text(card)
    refuse_paths(adapter)


def measure(classifier: Classifier, source: str) -> dict[str, Any]:
    """The adapter, TF-IDF learnt from all of the sample's training reviews, and the untrained head on the reviews of
    `source`.
    """
    test = reviews_of.align_labels(reviews_of.load_rows(source), classifier.labels)
    names = classifier.labels
    found = {
        "adapter": compute_metrics(test.labels, classifier.logits(test.texts), names, True),
        TFIDF: fit_baselines(reviews_of.load("sample").splits["train"], names, True)(test)[TFIDF],
        "untrained head": compute_metrics(test.labels, classifier.logits(test.texts, base=True), names, True),
    }
    return {name: {**metrics.to_dict(), "interval_95": interval(metrics)} for name, metrics in found.items()}


def interval(metrics: Metrics) -> dict[str, list[float]]:
    """95 % percentile bootstrap over the reviews: [low, high] of accuracy and of the mean error in stars.

    Both depend on the confusion matrix alone, so reviews are drawn from its cells; the report suffices to repeat it.
    """
    cells = np.asarray(metrics.confusion, dtype=float)
    true, guess = np.indices(cells.shape)
    drawn = np.random.default_rng(0).multinomial(metrics.rows, cells.ravel() / cells.sum(), RESAMPLES) / metrics.rows
    values = {"accuracy": drawn @ (true == guess).ravel(), "mae_stars": drawn @ np.abs(true - guess).ravel()}
    return {name: [float(end) for end in np.percentile(value, (2.5, 97.5))] for name, value in values.items()}


def refuse_paths(adapter: Path) -> None:
    """Raises RuntimeError where a file to be published names a place on this machine."""
    places = {
        f"{place}/" for place in (ROOT, ROOT.parent, Path.home(), Path(tempfile.gettempdir())) if place != Path("/")
    }
    for file in adapter.glob("*"):
        text = file.read_bytes() if file.suffix in (".json", ".md") else b""
        if named := sorted(place for place in places if place.encode() in text):
            raise RuntimeError(f"{file.name} names {', '.join(named)}; it must not be shipped.")


def replace_folder(new: Path, old: Path) -> None:
    """Puts a copy of `new` in the place of `old` by renaming: a reader finds the one or the other, whole."""
    draft, aside = old.with_name(f".{old.name}.draft"), old.with_name(f".{old.name}.old")
    for left_over in (draft, aside):
        shutil.rmtree(left_over, ignore_errors=True)
    shutil.copytree(new, draft)
    for file in draft.iterdir():
        file.chmod(0o644)  # safetensors writes its files for their owner alone
    if old.exists():
        old.rename(aside)
    draft.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    if TUNABLES not in os.environ:  # as a worker trains, so that the report's memory is a worker's
        os.execve(
            sys.executable,
            [sys.executable, "-m", "benchmarks.sample_adapter", *sys.argv[1:]],
            with_malloc_settings(os.environ),
        )
    sys.exit(main())
