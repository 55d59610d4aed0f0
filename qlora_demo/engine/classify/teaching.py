"""A few more steps on one review with the right label, and what they do to it and to reviews held out.

Among the steps' reviews are some of the sample with the network's own answers to them, so that it does not forget what
it can. Works on a classifier of its own; knows nothing of runs, and saves nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ...core.errors import DataError
from ..data import dataset as reviews_of
from .classifier import Classifier, check_texts
from .metrics import softmax

STEPS = 20
# Without replayed reviews these steps take tens of points from the accuracy on held-out reviews
# (benchmarks/teaching.py).
LEARNING_RATE = 3e-4
REPLAYED = 16  # reviews a step beside the one that is taught
HELD_OUT = 100
AT_ONCE = 16


@dataclass(frozen=True)
class HeldOut:
    """Judged on `rows` test reviews of the sample. accuracy (share) and mae_stars (mean distance of the expected stars,
    in stars) are None where the adapter's labels are not the sample's five stars. kept: the share whose label is the
    one before the lesson."""

    rows: int
    accuracy: float | None
    mae_stars: float | None
    kept: float


@dataclass(frozen=True)
class Taught:
    """A lesson: the taught classifier, and probabilities of the review by label, and HeldOut, before and after `steps`
    steps.
    """

    classifier: Classifier
    text: str
    label: str
    steps: int
    before: dict[str, float]
    after: dict[str, float]
    held_out_before: HeldOut
    held_out_after: HeldOut
    seconds: float

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the taught weights, LoRA's and the head's, by their names in the model."""
        with self.classifier.using() as (model, _, _):
            return {name: value.detach().clone() for name, value in trained_parameters(model)}


def teach(
    classifier: Classifier,
    text: str,
    label: int,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    replayed: int = REPLAYED,
    held_out: int = HELD_OUT,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda done: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Taught:
    """Takes `steps` AdamW steps on `text` with the right `label` (an index), changing `classifier`: hand over one
    loaded for this.

    Each step's loss is the cross-entropy of the review plus the mean one of `replayed` training reviews of the sample
    against the probabilities that the network gave them before. `on_progress(share done)`; `should_stop` is asked
    between steps, and what was learnt until then is kept. Raises DataError for an empty text or an unknown label."""
    check_texts([text])
    if not 0 <= label < len(classifier.labels):
        raise DataError(f"There is no label {label}; give 0 to {len(classifier.labels) - 1}.")
    began = time.monotonic()
    sample = reviews_of.load("sample")
    test = sample.splits["test"].take(range(min(held_out, len(sample.splits["test"]))))
    order = random.Random(seed).sample(
        range(len(sample.splits["train"])), min(replayed * steps, len(sample.splits["train"]))
    )
    replay = sample.splits["train"].take(order).texts
    # A step counts as about ten reviews looked at.
    plan = _Plan(2 * len(test) + len(replay) + 2 + 10 * steps, on_progress)
    before = _shares(classifier, [text, *test.texts], plan)
    targets = _shares(classifier, replay, plan)
    taken = _train(classifier, text, label, steps, learning_rate, replay, targets, plan, should_stop)
    after = _shares(classifier, [text, *test.texts], plan)
    on_progress(1.0)
    predicted = [dict(zip(classifier.labels, shares[0].tolist(), strict=True)) for shares in (before, after)]
    effects = [_evaluate(classifier, shares[1:], before[1:], test.labels) for shares in (before, after)]
    seconds = round(time.monotonic() - began, 1)
    name = classifier.labels[label]
    return Taught(classifier, text, name, taken, predicted[0], predicted[1], effects[0], effects[1], seconds)


def trained_parameters(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """What a training would change: LoRA's matrices and the trained copy of the head, with their names."""
    return [(name, value) for name, value in model.named_parameters() if "lora_" in name or "modules_to_save" in name]


@contextmanager
def trainable(model: torch.nn.Module) -> Iterator[None]:
    """Meanwhile `trained_parameters` take gradients; none are left afterwards."""
    parameters = [value for _, value in trained_parameters(model)]
    for value in parameters:
        value.requires_grad_(True)
    yield
    for value in parameters:
        value.requires_grad_(False)
        value.grad = None


class _Plan:
    """Tells the share of the work that is done."""

    def __init__(self, total: int, on_progress: Callable[[float], None]):
        self._total, self._done, self._tell = total, 0, on_progress

    def add(self, done: int) -> None:
        self._done += done
        self._tell(min(self._done / self._total, 1.0))


def _train(
    classifier: Classifier,
    text: str,
    label: int,
    steps: int,
    learning_rate: float,
    replay: list[str],
    targets: Any,
    plan: _Plan,
    should_stop: Callable[[], bool],
) -> int:
    """The steps; gives how many were taken."""
    right, taken = torch.tensor([label]), 0
    share = len(replay) // steps if steps else 0
    with classifier.using() as (model, tokenizer, max_length), trainable(model):
        optimizer = torch.optim.AdamW(
            [value for _, value in trained_parameters(model)], lr=learning_rate, weight_decay=0.0
        )
        model.train()
        while taken < steps and not should_stop():
            rows = slice(taken * share, (taken + 1) * share)
            batch = tokenizer(
                [text, *replay[rows]], truncation=True, max_length=max_length, padding=True, return_tensors="pt"
            )
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
            loss = cross_entropy(logits[:1], right)
            if share:
                loss = loss + cross_entropy(logits[1:], torch.from_numpy(targets[rows]).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken += 1
            plan.add(10)
        model.eval()
    return taken


def _shares(classifier: Classifier, texts: list[str], plan: _Plan) -> Any:
    """Probabilities (n, k), float64."""
    logits = []
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        logits += [scores.logits for scores in classifier.score(some)]
        plan.add(len(some))
    return softmax(np.stack(logits)) if logits else np.zeros((0, len(classifier.labels)))


def _evaluate(classifier: Classifier, shares: Any, before: Any, labels: list[int]) -> HeldOut:
    right, kept = np.array(labels), float(np.mean(shares.argmax(1) == before.argmax(1)))
    if not classifier.ordinal or len(classifier.labels) != len(reviews_of.SAMPLE_LABELS):
        return HeldOut(len(labels), None, None, kept)
    expected = shares @ np.arange(len(classifier.labels))
    return HeldOut(
        len(labels), float(np.mean(shares.argmax(1) == right)), float(np.mean(np.abs(expected - right))), kept
    )
