"""BF16 on this processor, done three ways: `python -m benchmarks.restored`. Writes benchmarks/restored.md.

The shipped adapter classifies and learns with its weights in 4 bits as they lie, restored and multiplied in BF16, and
restored and multiplied in FP32 with BF16's rounding (qlora_demo/engine/classify/restored.py); in turn, in one process
on one thread."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.metrics import softmax
from qlora_demo.engine.classify.teaching import trainable
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.models.device import choose_device, cpu_multiplies

RESULT = Path(__file__).parent / "restored.md"
PACKED, NATIVE, WIDENED = "4 bits as they lie", "restored, multiplied in BF16", "restored, multiplied in FP32"
REVIEWS, LEARNT, ROUNDS = 64, 17, 3  # LEARNT: as many as a lesson's step takes


def main() -> int:
    torch.set_num_threads(1)
    texts = reviews_of.load("sample").splits["test"].texts[:REVIEWS]
    ways = {PACKED: Classifier("sample", on_cpu=True)}
    for name, native in ((NATIVE, True), (WIDENED, False)):
        with mock.patch("qlora_demo.engine.classify.restored.cpu_multiplies", lambda dtype, native=native: native):
            ways[name] = Classifier("sample", on_cpu=True, restored=True)
    shares = {name: softmax(way.logits(texts)) for name, way in ways.items()}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            seconds[name][0].append(timed(lambda way=way: way.score(texts)) / REVIEWS)  # type: ignore[misc]
            seconds[name][1].append(timed(lambda way=way: learn(way, texts[:LEARNT])) / LEARNT)  # type: ignore[misc]
    RESULT.write_text(page(seconds, shares))
    print(RESULT.read_text())
    return 0


def timed(work: Callable[[], object]) -> float:
    """Seconds of this thread's processor time: what else the machine does is not counted."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def learn(classifier: Classifier, texts: list[str]) -> None:
    """Forward and backward through the whole network, as a lesson's step does; nothing is changed."""
    with classifier.using() as (model, tokenizer, max_length), trainable(model):
        batch = tokenizer(texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits.float().square().sum().backward()


def page(seconds: dict[str, tuple[list[float], list[float]]], shares: dict[str, np.ndarray]) -> str:
    medians = {name: [statistics.median(found) for found in both] for name, both in seconds.items()}
    quickest = medians[WIDENED]
    rows = [
        f"| {name} | {1000 * medians[name][0]:.1f} ms ({medians[name][0] / quickest[0]:.1f}) "
        f"| {1000 * medians[name][1]:.0f} ms ({medians[name][1] / quickest[1]:.1f}) "
        f"| {100 * np.abs(shares[name] - shares[NATIVE]).max():.2f} points |"
        for name in seconds
    ]
    processor = (
        f"{choose_device('cpu').name}, which {'has' if cpu_multiplies(torch.bfloat16) else 'lacks'} instructions for"
        " BF16"
    )
    return "\n".join(
        [
            "# BF16 on this processor",
            "",
            (
                f"`python -m benchmarks.restored`, {datetime.now(UTC):%Y-%m-%d}, {processor}; one thread. The shipped"
                f" adapter on {REVIEWS} reviews of the sample's test split; processor time, the median of {ROUNDS}"
                " rounds in turn. In brackets: as a multiple of the last row. The app takes the second way where the"
                " processor has the instructions, the last where it lacks them."
            ),
            "",
            (
                "| weights | a review classified | a review learnt from (forward and backward) | a probability differs"
                " from the second row's by |"
            ),
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
