"""A resumed run is the run that never stopped: same losses, same logits, same adapter; whatever ended it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import RunError
from qlora_demo.core.records import Event, Resumed, Step
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.train import checkpoints
from qlora_demo.engine.train import run as training
from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Store
from tests.families import make_family
from tests.reviews import write_reviews

TEXTS = ["I love it.", "It broke after a day.", "It is fine, nothing more."]
REVIEWS = 96


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "mine.jsonl", REVIEWS // 5 + 4)


def config(reviews: Path, **more: Any) -> RunConfig:
    # 3 evaluations, and so checkpoints, in 14 steps; an epoch is not a whole number of them.
    sizes = {"batch_size": 8, "rank": 4, "max_length": 32, "max_steps": 14, "evaluations": 3, "log_every": 1}
    settings = {"data": str(reviews), **sizes}
    return RunConfig.read({**settings, "dropout": 0.1, **more})


def run(folder: Path, settings: RunConfig, stop_at: int = 0) -> dict[int, float]:
    """Train until `stop_at` (0 = to the end); the losses by step."""
    folder.mkdir(exist_ok=True)
    losses: dict[int, float] = {}

    def emit(event: Event) -> None:
        if isinstance(event, Step):
            losses[event.step] = event.loss

    training.train(settings, folder, emit, lambda: bool(stop_at) and len(losses) >= stop_at - 1)
    return losses


def logits(folder: Path) -> np.ndarray[Any, Any]:
    return Classifier(str(folder / "adapter"), on_cpu=True).logits(TEXTS)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_equals_uninterrupted(tmp_path: Path, reviews: Path, accumulation: int) -> None:
    settings = config(reviews, accumulation=accumulation, model=str(make_family("bert", tmp_path / "base")))
    whole = run(tmp_path / "whole", settings)
    first = run(tmp_path / "parts", settings, stop_at=7)  # inside an epoch, at no evaluation
    assert 0 < max(first) < 14
    second = run(tmp_path / "parts", settings)
    # Asked in the middle of an accumulated step, it stops at once; the checkpoint is then an evaluation's.
    assert min(second) == (max(first) + 1 if accumulation == 1 else 6)
    assert {**first, **second} == pytest.approx(whole, abs=1e-5)
    assert np.abs(logits(tmp_path / "whole") - logits(tmp_path / "parts")).max() < 1e-4
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "parts")]
    assert reports[0]["base"]["confusion"] == reports[1]["base"]["confusion"]
    assert reports[1]["training"]["resumed_at"] == min(second) - 1 and not reports[1]["stopped"]


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in (*checkpoints.CHECKPOINT_FILES, "trainer_state.json"):
            (folder / name).write_text("{}")
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-15"
    (tmp_path / "checkpoints" / "checkpoint-15" / "trainer_state.json").write_text('{"log_his')
    (tmp_path / "checkpoints" / "checkpoint-10" / "optimizer.pt").unlink()
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-5"
    assert checkpoints.last_checkpoint(tmp_path, below=5) is None
    assert checkpoints.last_checkpoint(tmp_path / "nowhere") is None
    checkpoints.drop_half_written(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-5"]


def wait(store: Store, job: Any, until: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, job.state()
        queue.advance(store)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_its_end(tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    store = Store(tmp_path)
    job = queue.submit(store, "train", config(reviews, max_steps=40, evaluations=10).to_dict())
    wait(store, job, lambda: checkpoints.last_checkpoint(job.folder) is not None)
    with pytest.raises(RunError, match="only a run that has ended can be resumed"):
        queue.resume(store, job.id)
    os.kill(job.state().pid or 0, signal.SIGKILL)
    wait(store, job, lambda: job.state().is_final and job.state().ended is not None)
    assert job.state().state == "interrupted" and not (job.folder / "adapter").exists()
    before = job.events()
    queue.resume(store, job.id)
    wait(store, job, lambda: job.state().is_final)
    assert job.state().state == "done", job.state().error
    events = job.events()
    assert events[: len(before)] == before and [e["seq"] for e in events] == list(range(1, len(events) + 1))
    resumed = [e for e in events if e["event"] == Resumed.event]
    assert len(resumed) == 1 and resumed[0]["step"] > 0
    steps = [e["step"] for e in events[len(before) :] if e["event"] == "step"]
    assert steps == list(range(resumed[0]["step"] + 1, 41))
    assert len(logits(job.folder)) == len(TEXTS)
    with pytest.raises(RunError, match="is done: there is nothing left to do"):
        queue.resume(store, job.id)


def test_a_resumed_run_waits_at_the_end_of_the_line(tmp_path: Path) -> None:
    store, started = Store(tmp_path), []

    def launch(folder: Path) -> int:
        started.append(folder.name)
        return os.getpid()

    first, second, third = (queue.submit(store, "train", {}, launch=launch) for _ in range(3))
    queue.stop(store, third.id, launch=launch)
    fourth = queue.submit(store, "train", {}, launch=launch)
    queue.resume(store, third.id, launch=launch)
    assert [job.id for job, _ in store.waiting()] == [second.id, fourth.id, third.id]
    assert store.position(third) == 3 and started == [first.id]


def test_an_ended_run_is_renamed_and_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = queue.submit(store, "train", {}, launch=lambda folder: os.getpid())
    for change in (lambda: queue.rename(store, job.id, "mine"), lambda: queue.delete(store, job.id)):
        with pytest.raises(RunError, match="is starting; only a run that has ended"):
            change()
    waiting = queue.submit(store, "train", {}, launch=lambda folder: os.getpid())
    queue.stop(store, waiting.id)
    queue.rename(store, waiting.id, "  my  run ")
    assert waiting.summary().name == "my run"
    with pytest.raises(RunError, match="The name has 81 characters; give at most 80"):
        queue.rename(store, waiting.id, "x" * 81)
    (waiting.folder / "adapter").mkdir()
    (waiting.folder / "adapter" / "weights").write_bytes(b"0" * 1000)
    assert 1000 < waiting.size_bytes() < 10_000
    queue.delete(store, waiting.id)
    assert [found.id for found in store.jobs()] == [job.id] and not list(tmp_path.glob(".deleted*"))
    with pytest.raises(RunError, match="There is no run"):
        queue.delete(store, waiting.id)
