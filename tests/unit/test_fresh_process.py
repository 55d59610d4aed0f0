"""A function called in a process of its own: its result, its progress, its errors, and every way in which it can end
early."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from qlora_demo.core.cancellation import DownloadStopped, call_here
from qlora_demo.core.errors import AdapterError, ProcessDied
from qlora_demo.jobs.fresh_process import call
from tests.fresh_work import work


def test_a_result_and_progress_come_from_another_process() -> None:
    progress: list[tuple[str, float | None]] = []
    result = call(work, {"echo": [1.5, "ä\n"]}, on_progress=lambda *news: progress.append(news))
    assert result["pid"] != os.getpid() and result["echo"] == [1.5, "ä\n"] and "tcache_count" in result["heap"]
    assert progress == [("begun", 0.5)]
    assert call_here(work, {"echo": 1})["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        ({"raise": "adapter"}, AdapterError, r"^No such adapter\.$"),
        ({"raise": "memory"}, Exception, r"^Too large\.$"),
        ({"raise": "other"}, ProcessDied, r"^ValueError: odd$"),
        ({"die": True, "echo": 1}, ProcessDied, r"^signal 9$"),
    ],
)
def test_its_error_is_raised_here(request_: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call(work, request_)


def test_its_memory_has_a_limit() -> None:
    assert call(work, {"bytes": 300 * 2**20}) == 300 * 2**20
    with pytest.raises(ProcessDied, match="memory ran out"):
        call(work, {"bytes": 300 * 2**20}, memory_bytes=200 * 2**20)


def test_it_can_be_stopped_and_has_a_deadline(tmp_path: Path) -> None:
    stop, began = threading.Event(), time.monotonic()
    request = {"seconds": 60, "pid_file": str(tmp_path / "pid")}
    with pytest.raises(DownloadStopped):
        call(work, request, on_progress=lambda *_: stop.set(), should_stop=stop.is_set)
    with pytest.raises(ProcessDied, match=r"no result after 2 s"):
        call(work, request, timeout_seconds=2)
    assert time.monotonic() - began < 20 and not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    source = (
        "from qlora_demo.jobs.fresh_process import call\nfrom tests.fresh_work import work\n"
        f"call(work, {{'seconds': 60, 'pid_file': {str(pid)!r}}})"
    )
    parent = psutil.Popen([sys.executable, "-c", source], cwd=Path(__file__).parents[2])
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    child = psutil.Process(int(pid.read_text()))
    parent.kill()
    parent.wait()
    child.wait(10)
