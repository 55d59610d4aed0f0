"""A disk that is full in the middle of a run: a small file system of the test's own, the real worker and the real
engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.jobs import queue
from qlora_demo.jobs.launch import start_worker
from qlora_demo.jobs.store import Store
from tests.families import make_family
from tests.reviews import write_reviews
from tests.waiting_jobs import ended, wait_for

STEPS = 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_a_sentence_and_it_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    store = Store(disk / "runs")
    sizes = {"batch_size": 4, "rank": 2, "max_length": 16, "max_steps": STEPS, "evaluations": STEPS // 5}
    model, reviews = make_family("bert", tmp_path / "model"), write_reviews(tmp_path / "mine.jsonl", 14)
    settings = RunConfig.read({"model": str(model), "data": str(reviews), "log_every": 1, **sizes}).to_dict()
    job = queue.submit(store, "train", settings, launch=start_worker)
    # After the first checkpoint.
    wait_for(lambda: any(event["event"] == "step" and event["step"] >= 7 for event in job.events()), job)
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    assert ended(store, job) == "failed"
    assert job.state().error == "The disk is full; free some space and resume the run."
    told = job.events()
    assert told[-1]["event"] == "finished" and told[-1]["state"] == "failed"
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert not (job.folder / "adapter").exists()
    with suppress(psutil.NoSuchProcess):  # the memory is given back: the process ends
        psutil.Process(job.state().pid or 0).wait(10)

    ballast.unlink()
    queue.resume(store, job.id, launch=start_worker)
    assert ended(store, job) == "done", job.state().error
    assert job.events()[: len(told)] == told, "no event that was written is lost"
    assert (job.folder / "adapter" / "adapter_model.safetensors").is_file()
