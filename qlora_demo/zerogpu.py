"""ZeroGPU, the Spaces where a device exists only inside a GPU call: a job's worker runs in one.

The same worker and folder as elsewhere. A thread of the app drains the call, so closing the page ends nothing; the call
holds the visitor's quota, so it asks the worker to stop while there is time to save. Elsewhere `spaces` changes
nothing."""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .host.environment import GPU_CALL_SECONDS, on_zero_gpu
from .jobs.launch import start_worker
from .jobs.queue import Launch
from .jobs.state import read_state
from .worker import work_on

GpuCall = Callable[[str], Iterator[float]]
SAVE_SECONDS = 35  # kept for evaluation, the reload proof and the report
log = logging.getLogger("qlora_demo")


def launcher() -> Launch:
    """How a worker starts here. To be called before the page is up: a Space that has no GPU function by then is refused
    its GPU.
    """
    if not on_zero_gpu():
        return start_worker
    import spaces

    return functools.partial(start_in_gpu_call, call=spaces.GPU(work_in_call, duration=GPU_CALL_SECONDS))


def start_in_gpu_call(folder: Path, *, call: GpuCall) -> int:
    """Begins the GPU call that works on the job in `folder`; the worker writes its own pid once it runs.

    Files are classified, and models merged, by a process beside, on the CPU: it may take longer than any quota.
    """
    state = read_state(folder)
    if state is not None and state.kind in ("classify", "merge"):
        return start_worker(folder)
    # The request's context holds the visitor's token: without it the quota would be the Space's.
    context = contextvars.copy_context()
    threading.Thread(
        target=context.run, args=(_drain, call, str(folder)), name=f"gpu-{folder.name}", daemon=True
    ).start()
    return os.getpid()


def _drain(call: GpuCall, folder: str) -> None:
    try:
        for _ in call(folder):
            pass
    except Exception:  # quota, queue or platform; the state tells that the worker has gone
        log.exception("The GPU call for %s ended", Path(folder).name)


def work_in_call(folder: str) -> Iterator[float]:
    """The worker in a thread of the GPU process; yields the seconds passed, since a silent generator is given up."""
    began, asked = time.monotonic(), threading.Event()
    worker = threading.Thread(target=work_on, args=(Path(folder), asked), name="worker")
    worker.start()
    try:
        while worker.is_alive():
            worker.join(2)
            if time.monotonic() - began > GPU_CALL_SECONDS - SAVE_SECONDS:
                asked.set()
            yield time.monotonic() - began
    finally:
        asked.set()
