"""What goes wrong in a run, with the real engine: memory runs out, the model vanishes, another adapter is started from,
patience ends."""

from __future__ import annotations

import json
import resource
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import AdapterError, ModelError
from qlora_demo.core.records import Event, Notice, Phase, Probe
from qlora_demo.engine.train import run as training
from qlora_demo.jobs import queue
from qlora_demo.jobs.launch import start_worker
from qlora_demo.jobs.store import Store
from tests.families import make_family
from tests.reviews import write_reviews
from tests.waiting_jobs import ended

MiB = 1024**2


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "mine.jsonl", 24)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_family("bert", tmp_path_factory.mktemp("model")))


def config(reviews: Path, **more: Any) -> RunConfig:
    sizes = {"batch_size": 8, "rank": 4, "max_length": 32, "max_steps": 6, "evaluations": 3, "log_every": 1}
    settings = {"data": str(reviews), **sizes}
    return RunConfig.read({**settings, **more})


def run(folder: Path, settings: RunConfig) -> list[Event]:
    folder.mkdir(exist_ok=True)
    events: list[Event] = []
    training.train(settings, folder, events.append, lambda: False)
    return events


@pytest.mark.slow
def test_memory_runs_out_and_what_is_suggested_fits(
    tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real limit on the worker: its sentence, its end, and a smaller batch that goes through under the same limit."""
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def limited(folder: Path) -> int:
        pid = start_worker(folder)
        resource.prlimit(pid, resource.RLIMIT_DATA, (1100 * MiB, 1100 * MiB))
        return pid

    store = Store(tmp_path)
    tried = config(reviews, batch_size=96, max_length=128, max_steps=2, evaluations=1)
    job = queue.submit(store, "train", tried.to_dict(), launch=limited)
    assert ended(store, job) == "failed"
    finished = job.events()[-1]
    assert "Memory ran out: steps of 96 x" in finished["error"] and "is predicted to fit" in finished["error"]
    suggested = finished["suggestion"]
    assert suggested["batch_size"] < 96 and suggested["batch_size"] * suggested["accumulation"] >= 96
    assert not (job.folder / "adapter").exists()
    with suppress(psutil.NoSuchProcess):  # the memory is given back: the process ends
        psutil.Process(job.state().pid or 0).wait(10)
    again = queue.submit(store, "train", {**tried.to_dict(), **suggested}, launch=limited)
    assert ended(store, again) == "done", again.state().error


@pytest.mark.slow
def test_a_model_that_vanishes_in_mid_run(tmp_path: Path, reviews: Path) -> None:
    model = make_family("gpt2", tmp_path / "model")
    folder = tmp_path / "run"
    folder.mkdir()

    def emit(event: Event) -> None:
        if isinstance(event, Phase) and event.name == "training" and event.progress and event.progress > 0.5:
            shutil.rmtree(model, ignore_errors=True)

    with pytest.raises((ModelError, AdapterError)) as refused:
        training.train(config(reviews, model=str(model)), folder, emit, lambda: False)
    assert "model" in str(refused.value).lower() and "Traceback" not in str(refused.value)
    assert not (folder / "adapter").exists()


def test_a_run_starts_from_another_adapter(tmp_path: Path, reviews: Path, model: str) -> None:
    pinned = ("I love it", "Broken")
    first = run(tmp_path / "first", config(reviews, model=model, learning_rate=2e-3, pinned=pinned))
    second = run(
        tmp_path / "second", config(reviews, model=model, start_from=str(tmp_path / "first" / "adapter"), pinned=pinned)
    )
    last = [event for event in first if isinstance(event, Probe)][-2:]
    begun = [event for event in second if isinstance(event, Probe)][:2]
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("first", "second")]
    if reports[0]["training"]["best_step"] == 6:  # else the adapter is that of an earlier evaluation
        for before, after in zip(last, begun, strict=True):
            assert after.probabilities == pytest.approx(before.probabilities, abs=0.01)
    assert reports[1]["start"]["confusion"] == reports[0]["final"]["test"]["confusion"]
    assert reports[1]["base"]["confusion"] == reports[0]["base"]["confusion"], "below stays the untrained head"
    with pytest.raises(AdapterError, match=r"rank 8 \(it has 4\)"):
        run(tmp_path / "third", config(reviews, model=model, rank=8, start_from=str(tmp_path / "first" / "adapter")))


def test_patience_ends_a_run_that_does_not_get_better(tmp_path: Path, reviews: Path, model: str) -> None:
    settings = config(
        reviews, model=model, learning_rate=1e-9, max_steps=24, evaluations=12, patience=2, class_weights="balanced"
    )
    events = run(tmp_path / "run", settings)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["ended_early"] and report["training"]["steps"] < 24 and not report["stopped"]
    assert any(isinstance(event, Notice) and "Ended early" in event.message for event in events)
    assert report["doubts"], "an adapter that has learnt nothing is said to be none"
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert {answer["split"] for answer in answers} == {"validation", "test"}


def test_stars_outside_the_scale_and_a_batch_larger_than_the_data_are_told(
    tmp_path: Path, reviews: Path, model: str
) -> None:
    mine = tmp_path / "mine.jsonl"
    outside = [{"text": f"off the scale {n}", "stars": 7} for n in range(4)]
    mine.write_text(reviews.read_text() + "".join(json.dumps(row) + "\n" for row in outside))
    events = run(tmp_path / "run", config(mine, model=model, batch_size=512, max_steps=1, evaluations=1))
    told = " ".join(event.message for event in events if isinstance(event, Notice))
    assert "4 rows were left out" in told and "7" in told, told
    assert "512" in told and "fewer" in told, told
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["data"]["labels"] == ["1", "2", "3", "4", "5"] and sum(report["data"]["skipped"].values()) == 4
