"""ZeroGPU, the Spaces where a device exists only inside a GPU call: a job's worker runs in one.

The same worker and folder as elsewhere. A thread of the app drains the call, so closing the page ends nothing; the call holds
the visitor's quota, so it asks the worker to stop while there is time to save. Elsewhere `spaces` changes nothing.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .jobs.launch import start_worker
from .jobs.queue import Launch
from .worker import work_on

CALL_SECONDS = 120  # what a visitor who is not signed in has for a day
SAVE_SECONDS = 40  # kept for evaluation, the reload proof and the report
log = logging.getLogger("qlora_demo")


def launcher() -> Launch:
    """How a worker starts here."""
    return start_in_gpu_call if os.environ.get("SPACES_ZERO_GPU") else start_worker


def start_in_gpu_call(folder: Path) -> int:
    """Begins the GPU call that works on the job in `folder`; the worker writes its own pid once it runs."""
    # The request's context holds the visitor's token: without it the quota would be the Space's.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_drain, str(folder)), name=f"gpu-{folder.name}", daemon=True).start()
    return os.getpid()


def _drain(folder: str) -> None:
    import spaces

    try:
        for _ in spaces.GPU(work_in_call, duration=CALL_SECONDS)(folder):
            pass
    except Exception:  # quota, queue or platform; the state tells that the worker has gone
        log.exception("The GPU call for %s ended", folder)


def work_in_call(folder: str) -> Iterator[float]:
    """The worker in a thread of the GPU process; yields the seconds passed, since a silent generator is given up."""
    began, asked = time.monotonic(), threading.Event()
    worker = threading.Thread(target=work_on, args=(Path(folder), asked), name="worker")
    worker.start()
    try:
        while worker.is_alive():
            worker.join(2)
            if time.monotonic() - began > CALL_SECONDS - SAVE_SECONDS:
                asked.set()
            yield time.monotonic() - began
    finally:
        asked.set()
