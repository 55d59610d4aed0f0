"""state.json: what a job is doing, and whether that is still true.

A worker that is killed cannot say so; readers go by the pid, the pid's start time and the heartbeat.
Knows nothing of queues or events. Times are Unix seconds.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import psutil

from ..core.format import to_json
from ..core.records import ACTIVE_STATES, FINAL_STATES, Scores

HEARTBEAT_SECONDS = 1.0
# Where the process cannot be looked up (another host or container) silence this long means death.
SILENCE_SECONDS = 30.0
_SETTLED_SECONDS = 2.5  # some file systems count whole seconds, or two
LOST = (
    "The worker ended without a word: it was killed, the machine restarted, or memory ran out; worker.log in the run's"
    " folder may tell."
)


@dataclass(frozen=True)
class JobState:
    """The content of state.json. `metrics` is the last evaluation; `ended` is None until the end is written down.

    waiting_since: when it joined the queue, where that was later than `created` (a resumed run goes to its end).
    """

    state: str
    kind: str = "train"
    name: str = ""
    created: float = 0.0
    waiting_since: float | None = None
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: float | None = None
    host: str = ""
    error: str | None = None
    steps_done: int = 0
    steps_total: int | None = None
    metrics: Scores | None = None
    key_hash: str = ""
    beside: bool = False

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    def true(self) -> JobState:
        """This state, or `interrupted` where its worker is gone."""
        if self.is_active and not _is_alive(self):
            return replace(self, state="interrupted", error=LOST)
        return self


_FIELDS = tuple(field.name for field in fields(JobState))


def read_state(folder: Path) -> JobState | None:
    """What state.json says, true or not; None where there is no job in the folder.

    Pages ask for all jobs again and again: each version of a file is parsed once.
    """
    path = f"{folder}/state.json"
    try:
        file = os.stat(path)
        # Times are coarse: what was written just now may be written again at the same time.
        settled = time.time() - file.st_mtime > _SETTLED_SECONDS
        state = (_parse_once if settled else _parse)(path, file.st_ino, file.st_mtime_ns, file.st_size)
    except (OSError, ValueError, TypeError):
        return None
    return state if state.is_active or state.is_final or state.state == "queued" else None


def _parse(path: str, *_version: int) -> JobState:
    with open(path, "rb") as file:
        stored = json.load(file)
    return JobState(**{name: stored[name] for name in _FIELDS if name in stored})


_parse_once = functools.lru_cache(maxsize=10_000)(_parse)  # what cannot be read is not remembered


def write_state(folder: Path, state: JobState) -> None:
    """Write state.json whole, then rename: a reader never sees half of it. Raises OSError."""
    # One name for each thread: two writers must not share a half-written file.
    draft = folder / f".state.{os.getpid()}.{threading.get_ident()}"
    try:
        draft.write_text(to_json(asdict(state)) + "\n", encoding="utf-8")
        draft.replace(folder / "state.json")
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@functools.cache
def this_host() -> str:
    """The host's name and its pid namespace: a container may share the name, but not the pids."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class ProcessMarks(TypedDict):
    """The fields of JobState that tell a living process from a later one with the same number."""

    pid: int
    pid_started: float | None
    host: str
    heartbeat: float


def process_marks(pid: int) -> ProcessMarks:
    """The marks of the process `pid`."""
    try:
        started: float | None = psutil.Process(pid).create_time()
    except psutil.Error:
        started = None
    return {"pid": pid, "pid_started": started, "host": this_host(), "heartbeat": time.time()}


def _is_alive(state: JobState) -> bool:
    silence = abs(time.time() - (state.heartbeat or state.started or state.created))
    if state.host != this_host() or state.pid is None:
        return silence <= SILENCE_SECONDS
    try:
        process = psutil.Process(state.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        if state.pid_started is not None and abs(process.create_time() - state.pid_started) < 2:
            return True
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return silence <= SILENCE_SECONDS
    # Another start time: a reused pid, unless the clock was set, which moves all start times; a heartbeat decides.
    return silence < 3 * HEARTBEAT_SECONDS


class StateWriter:
    """The worker's hand on its state.json; several threads may use it."""

    def __init__(self, folder: Path, state: JobState):
        self._folder = folder
        self._state = state
        self._lock = threading.Lock()

    @property
    def state(self) -> JobState:
        return self._state

    def note(self, **changes: Any) -> None:
        """Remember changes; the next beat writes them."""
        with self._lock:
            self._state = replace(self._state, **changes)

    def update(self, **changes: Any) -> None:
        """Write the state now, with these changes and a fresh heartbeat. Raises OSError."""
        with self._lock:
            self._state = replace(self._state, heartbeat=time.time(), **changes)
            write_state(self._folder, self._state)
