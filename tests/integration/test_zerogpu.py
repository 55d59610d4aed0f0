"""A job inside a GPU call, as on ZeroGPU: the same folder, states and adapter. `spaces` is played by a stand-in that
calls the function."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest

from qlora_demo import zerogpu
from qlora_demo.jobs import queue
from qlora_demo.jobs.launch import start_worker
from qlora_demo.jobs.store import Job, Store
from tests.families import make_family

TEXTS = ("Perfect, I love it", "Good, small flaws", "It is okay", "Rather poor", "Broke at once")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Durations of the GPU calls that were made."""
    made: list[int] = []

    def gpu(task, duration):
        made.append(duration)
        return task

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    return made


def submit(tmp_path: Path, **settings: object) -> Job:
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text,label\n" + "\n".join(f'"{TEXTS[i % 5]} number {i}",{5 - i % 5}' for i in range(60)) + "\n")
    model = make_family("gpt2", tmp_path / "model")
    sizes = {"batch_size": 8, "max_length": 16, "rank": 2, "log_every": 1}
    config = {"model": str(model), "data": str(reviews), **sizes, **settings}
    return queue.submit(Store(tmp_path / "runs"), "train", config, launch=zerogpu.launcher())


def wait(job: Job) -> str:
    deadline = time.monotonic() + 120
    while not job.state().is_final and time.monotonic() < deadline:
        time.sleep(0.1)
    return job.state().state


def test_elsewhere_workers_are_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zerogpu.launcher() is start_worker


def test_the_gpu_function_is_there_before_the_page(calls: list[int]) -> None:
    zerogpu.launcher()
    assert calls == [zerogpu.GPU_CALL_SECONDS]


@pytest.mark.slow
def test_files_are_classified_beside_on_the_cpu(tmp_path: Path, calls: list[int]) -> None:
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text\nPerfect, I love it\n")
    job = queue.submit(
        Store(tmp_path / "runs"), "classify", {"file": str(reviews), "adapter": "sample"}, launch=zerogpu.launcher()
    )
    assert wait(job) == "done", job.state().error
    assert job.state().pid != os.getpid(), "it ran in the GPU call"


def test_a_run_in_a_gpu_call(tmp_path: Path, calls: list[int]) -> None:
    job = submit(tmp_path, max_steps=4)
    assert wait(job) == "done", job.state().error
    assert calls == [zerogpu.GPU_CALL_SECONDS]
    assert (job.folder / "adapter" / "adapter_model.safetensors").is_file()
    assert [event["step"] for event in job.events() if event["event"] == "step"] == [1, 2, 3, 4]


@pytest.mark.slow
def test_the_call_stops_in_time_to_save(tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zerogpu, "SAVE_SECONDS", zerogpu.GPU_CALL_SECONDS - 4)
    job = submit(tmp_path, max_steps=100_000)
    assert wait(job) == "stopped", job.state().error
    assert (job.folder / "report.json").is_file()
