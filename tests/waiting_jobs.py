"""Waiting for what a job's own process does."""

from __future__ import annotations

import time
from collections.abc import Callable

from qlora_demo.jobs import queue
from qlora_demo.jobs.store import Job, Store


def wait_for(condition: Callable[[], bool], job: Job, seconds: float = 120) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (job.state(), (job.folder / "worker.log").read_text()[-2000:])
        time.sleep(0.02)


def ended(store: Store, job: Job, seconds: float = 120) -> str:
    """The state in which the job ends; meanwhile the waiting line is moved on, as an app does."""

    def is_final() -> bool:
        queue.advance(store)
        return job.state().is_final

    wait_for(is_final, job, seconds)
    return job.state().state
