"""Waiting for slow work without being held by it: with a deadline, and with a way to stop; and whether the Hub may be
asked at all.

Knows nothing of what the work is.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

from .errors import HubError

T = TypeVar("T")
ShouldStop = Callable[[], bool]
OnProgress = Callable[[str, float | None], None]  # what is done now, and the share done where it is known
Work = Callable[[Any, OnProgress], Any]  # a request and a result that JSON can hold, of the work's own kinds
Call = Callable[[Work, Mapping[str, object]], Any]  # calls the work with the request, here or in a process of its own


def silent(text: str, share: float | None) -> None:
    """Progress that nobody waits for."""


def call_here(work: Work, request: Mapping[str, object]) -> Any:
    """The work in this process, its progress dropped."""
    return work(request, silent)


def never() -> bool:
    """A stop that nobody asks for."""
    return False


class Repeating:
    """While entered, calls `tick` every so many seconds from a thread of its own."""

    def __init__(self, tick: Callable[[], None], seconds: float, name: str):
        self._tick, self._seconds, self._end = tick, seconds, threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            self._tick()


class DownloadStopped(HubError):
    """The user stopped a download; nothing half-fetched is left."""


def hub_forbidden() -> bool:
    """Whether QLORA_DEMO_OFFLINE forbids to ask; the Hub's own offline mode still serves what its cache holds."""
    return os.environ.get("QLORA_DEMO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def run_within(
    work: Callable[[], T],
    seconds: float | None = None,
    *,
    should_stop: ShouldStop | None = None,
    each: Callable[[], None] | None = None,
) -> T:
    """`work()` in a thread of its own, so that neither a name look-up nor a silent server can hold the caller.

    Raises what work raises, TimeoutError after `seconds`, DownloadStopped once `should_stop()` is true; `each()` is
    called about five times a second meanwhile. The thread may run on for a while; it is a daemon."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed over to the caller below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds if seconds is not None else None
    while thread.is_alive():
        left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
        thread.join(max(left, 0))
        if thread.is_alive() and left <= 0:
            raise TimeoutError(f"no answer in {seconds:g} seconds")
        if thread.is_alive() and should_stop is not None and should_stop():
            raise DownloadStopped("The download was stopped; nothing half-fetched is left.")
        if each is not None:
            each()
    if failure:
        raise failure[0]
    return result[0]
