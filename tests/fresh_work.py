"""A function to be called in a process of its own: what its request asks for, and every way to fail."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from qlora_demo.core.cancellation import OnProgress
from qlora_demo.core.errors import AdapterError, MemoryRanOut


def work(request: dict[str, Any], on_progress: OnProgress) -> Any:
    """What a request asks for."""
    on_progress("begun", 0.5)
    if place := request.get("pid_file"):
        Path(place).write_text(str(os.getpid()))
    if "seconds" in request:
        time.sleep(request["seconds"])
    if "raise" in request:
        raise {"adapter": AdapterError("No such adapter."), "memory": MemoryRanOut("Too large.", {"rank": 4})}.get(
            request["raise"], ValueError("odd")
        )
    if "bytes" in request:
        return len(bytearray(request["bytes"]))
    if request.get("die"):
        os.kill(os.getpid(), 9)
    print("what a library prints is no message")
    return {"pid": os.getpid(), "echo": request["echo"], "heap": os.environ.get("GLIBC_TUNABLES", "")}
