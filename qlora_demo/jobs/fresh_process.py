"""One way to call a function in a process of its own, which gives its memory back and takes its settings with it.

`call` starts `python -m qlora_demo.jobs.fresh_process`, which reads one line of JSON from standard input (what to call,
with which request) and writes lines of JSON to standard output: progress, and at last the result or the error. It ends
with its parent, whose end closes its input. Knows nothing of what is called."""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, TypedDict

from ..core import errors
from ..core.cancellation import DownloadStopped, OnProgress, ShouldStop, Work, never, silent
from .launch import python_environment

POLL_SECONDS = 0.2


def call(
    work: Work,
    request: Mapping[str, object],
    *,
    on_progress: OnProgress = silent,
    should_stop: ShouldStop = never,
    timeout_seconds: float | None = None,
    memory_bytes: int | None = None,
) -> Any:
    """`work(request, on_progress)`, a function of a module, in a fresh process; request and result are JSON.

    memory_bytes: the most private memory that the process may ask for. Raises the DemoError that the work raises,
    ProcessDied where the process ends otherwise or exceeds `timeout_seconds`, DownloadStopped where it is stopped."""
    order = {"function": f"{work.__module__}:{work.__qualname__}", "request": request, "memory_bytes": memory_bytes}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=python_environment(),
        )
        assert process.stdin and process.stdout
        try:
            with suppress(BrokenPipeError):  # it has died already, and the log says why
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            answer = _receive(process.stdout, on_progress, should_stop, timeout_seconds)
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        if answer is None:
            log.seek(0)
            lines = log.read().strip().splitlines()
            raise errors.ProcessDied(lines[-1][:200] if lines else f"signal {-process.returncode}")
    if "error" in answer:
        raise getattr(errors, answer["kind"], errors.ProcessDied)(answer["error"])
    return answer["result"]


class _Message(TypedDict, total=False):
    """A line of the process: its progress, or its last word (a result, or an error and its kind)."""

    progress: tuple[str, float | None]
    result: Any
    error: str
    kind: str


def _receive(
    output: IO[str], on_progress: OnProgress, should_stop: ShouldStop, timeout_seconds: float | None
) -> _Message | None:
    """The last message, progress being handed on; None where the output ended without one."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with output:
            for line in output:
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    began = time.monotonic()
    while True:
        if should_stop():
            raise DownloadStopped("The work was stopped.")
        if timeout_seconds is not None and time.monotonic() - began > timeout_seconds:
            raise errors.ProcessDied(f"no result after {timeout_seconds:g} s")
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        message: _Message | None = json.loads(line) if line else None
        if message is None or "progress" not in message:
            return message
        on_progress(*message["progress"])


def main() -> None:
    """The process: one order in, messages out."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no message

    def send(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if order["memory_bytes"]:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (order["memory_bytes"], hard))
    try:
        module, _, name = order["function"].partition(":")
        work: Work = getattr(importlib.import_module(module), name)
        send(result=work(order["request"], lambda text, share: send(progress=[text, share])))
    except errors.DemoError as error:
        known = type(error).__init__ is Exception.__init__ and hasattr(errors, type(error).__name__)
        send(error=str(error), kind=type(error).__name__ if known else "DemoError")
    except BaseException as error:
        traceback.print_exc()
        send(error="memory ran out" if errors.is_out_of_memory(error) else _last_line(error), kind="ProcessDied")


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()[:200]


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more is sent: this returns when the parent's end of the pipe is closed
    os._exit(3)


if __name__ == "__main__":
    main()
