"""Runs that are nothing but their files: what a live page is shown, without a training. The same numbers at every
call."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from qlora_demo.core.records import Baseline, Evaluation, Event, Finished, GpuReading, Notice, Phase, Probe, Step
from qlora_demo.jobs.state import process_marks, read_state, write_state
from qlora_demo.jobs.store import EventWriter, Job, Store

LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
HOSTILE = "<script>window.hacked = true</script> **bold** <img src=x onerror='window.hacked = true'> & \"quotes\""
TEXTS = (
    "I love this product",
    "Great sound, but the battery barely lasts an afternoon.",
    "Terrible. Broke after two days, a complete waste of money.",
    HOSTILE,
    "Es ist ganz gut, aber für den Preis hätte ich mehr erwartet 🙂",
)
SPIKE, SPIKE_LOSS = 2717, 4.25
DIP, DIP_LOSS = 3333, 0.0125


def make_run(home: Path, state: str, events: Iterator[Event], steps_done: int, steps_total: int) -> Job:
    """A training run in this state, of this process where it is active, with these events."""
    job = Store(home).create("train", {"model": "sample", "data": "sample"})
    writer = EventWriter(job.folder)
    for event in events:
        writer.write(event)
    if state in ("done", "failed"):
        writer.write(Finished(state, "The loss became inf." if state == "failed" else None, None))
    put_state(job, state, steps_done, steps_total)
    return job


def put_state(job: Job, state: str, steps_done: int, steps_total: int) -> None:
    stored = read_state(job.folder)
    assert stored is not None
    marks = process_marks(os.getpid()) if state in ("starting", "running", "stopping") else {}
    ended = stored.created + 60 if state in ("done", "failed", "stopped") else None
    steps = {"steps_done": steps_done, "steps_total": steps_total}
    write_state(job.folder, replace(stored, state=state, ended=ended, **steps, **marks))


def story(steps: int, total: int, evaluations: int, texts: tuple[str, ...] = (), gpu: bool = False) -> Iterator[Event]:
    """The events of a run that learns: the first `steps` of `total`, judged `evaluations` times on the way to the
    end."""
    chance = random.Random(0)
    yield Phase("training", "preparing", steps=total, labels=len(LABELS))
    yield Baseline(1.6095, 0.2, 0.067, 1.4, "validation", name="majority")
    yield Baseline(1.02, 0.64, 0.63, 0.5, "validation", name="tfidf-logistic-regression")
    if len(texts) > 1:
        yield Notice("A third of the reviews are longer than 128 tokens and were cut.")
    yield from judged(0, total, texts)
    every = max(total // evaluations, 1)
    for step in range(1, steps + 1):
        yield one_step(step, total, chance)
        yield Phase("training", f"step {step} of {total}, about 3 min left", step / total, seconds_left=180.0)
        if gpu and step % 5 == 0:
            yield GpuReading(0.87, 11 * 1024**3, 64.0, 231.5)
        if step % every == 0:
            yield from judged(step, total, texts)


def one_step(step: int, total: int, chance: random.Random) -> Step:
    """Falls from chance to a third; now and then a wild one."""
    loss = 1.61 * math.exp(-2.2 * step / total) + 0.35 * (1 - math.exp(-2.2 * step / total)) + chance.gauss(0, 0.11)
    loss = {SPIKE: SPIKE_LOSS, DIP: DIP_LOSS}.get(step, max(loss, 0.05))
    rate = 2e-4 * min(step / (0.06 * total), (total - step) / (0.94 * total))
    norm = None if step % 50 == 7 else 1.2 + abs(chance.gauss(0, 0.5))
    return Step(
        step, step / total, loss, rate, norm, chance.gauss(42, 2), chance.gauss(1800, 90), 780 * 1024**2 + step * 1024
    )


def judged(step: int, total: int, texts: tuple[str, ...]) -> Iterator[Event]:
    """An evaluation, and each pinned review scored."""
    learned = 1 - math.exp(-4 * step / total)
    yield Evaluation(
        1.62 - 0.9 * learned, 0.2 + 0.55 * learned, 0.2 + 0.54 * learned, 1.4 - learned, "validation", step=step
    )
    for n, text in enumerate(texts):
        aim = (4.6, 3.1, 0.3, 1.8, 2.6)[n % 5]
        swings = [0.3 * math.sin(9 * step / total + rank + n) for rank in range(len(LABELS))]
        weights = [math.exp(-2.2 * learned * (rank - aim) ** 2 + swing) for rank, swing in enumerate(swings)]
        yield Probe(step, text, {label: weight / sum(weights) for label, weight in zip(LABELS, weights, strict=True)})
