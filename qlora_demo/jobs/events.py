"""events.jsonl: what happened in a job, one JSON object a line, only ever appended to.

A line without its newline was torn by a crash: readers ignore it, the next writer ends it. Only one process writes at a
time (the worker, or after its death whoever holds the queue's lock). Knows nothing of states.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from ..core.records import Event, EventLine
from .state import to_json

# Read from the end in blocks of this many bytes: some 300 events, more than a second brings.
_BLOCK_BYTES = 64 * 1024


def read_events(path: Path, after: int = 0, limit: int | None = None) -> list[EventLine]:
    """The whole events with a `seq` above `after`, oldest first, at most `limit` of them.

    Costs by what is new, not by the file's length: one block from the end is enough for who polls.
    """
    if after <= 0:
        return _oldest(_tail(path, lambda lines: False), limit)
    return _newer(_tail(path, lambda lines: _reaches(lines, after)), after)[:limit]


def last_event(path: Path, which: Callable[[EventLine], bool] = lambda event: True) -> EventLine | None:
    """The last whole event that is `which`, None where there is none."""

    def newest(lines: list[bytes]) -> EventLine | None:
        return next(filter(which, filter(None, map(_record, reversed(lines)))), None)

    return newest(_tail(path, lambda lines: newest(lines) is not None))


def _tail(path: Path, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The last whole lines of the file: a block, then more until they are `enough` or all."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            span = min(size, _BLOCK_BYTES)
            while True:
                file.seek(size - span)
                lines = file.read(span).split(b"\n")[:-1]
                if span == size:
                    return lines
                # This span begins inside the file, so inside a line.
                if enough(lines[1:]):
                    return lines[1:]
                span = min(size, span * 4)
    except FileNotFoundError:
        return []


def _reaches(lines: list[bytes], after: int) -> bool:
    """Whether the first readable line is known to the reader, or the next: nothing new lies before it."""
    first = next(filter(None, map(_record, lines)), None)
    return first is not None and first["seq"] <= after + 1


def _oldest(lines: list[bytes], limit: int | None) -> list[EventLine]:
    return list(itertools.islice(filter(None, map(_record, lines)), limit))


def _newer(lines: list[bytes], after: int) -> list[EventLine]:
    """Found from the end, so that old lines are not parsed."""
    newest_first = filter(None, map(_record, reversed(lines)))
    return list(itertools.takewhile(lambda record: record["seq"] > after, newest_first))[::-1]


def _record(line: bytes) -> EventLine | None:
    """The event on a line, None for a torn one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return cast(EventLine, record) if isinstance(record, dict) and isinstance(record.get("seq"), int) else None


class EventWriter:
    """Appends events, numbered on from the last whole one; several threads of one process may use it."""

    def __init__(self, folder: Path):
        self._path = folder / "events.jsonl"
        self._run = folder.name
        self._lock = threading.Lock()
        last = last_event(self._path)
        self._seq = int(last["seq"]) if last else 0

    def write(self, event: Event) -> EventLine:
        """Append `event`; returns it as written, with seq, time (Unix seconds) and run. Raises OSError."""
        with self._lock:
            record: EventLine = {"seq": self._seq + 1, "time": round(time.time(), 3), "run": self._run}
            record |= event.to_dict()
            line = to_json(record).encode() + b"\n"
            with self._path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END) and _last_byte(file.fileno()) != b"\n":
                    line = b"\n" + line
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            self._seq += 1
            return record


def _last_byte(descriptor: int) -> bytes:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)
