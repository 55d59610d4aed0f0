"""Stop buttons of work that runs in a handler: what a session has started, and may cancel.

A closed page cancels nothing: the work goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr


class Cancellations:
    """For one kind of work, of which a session does one at a time."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}

    @contextmanager
    def watch(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """Around the session's work; yields a function that says whether it was cancelled."""
        session, event = str(request.session_hash), threading.Event()
        self._events[session] = event
        try:
            yield event.is_set
        finally:
            if self._events.get(session) is event:
                del self._events[session]

    def cancel(self, request: gr.Request) -> None:
        """Cancels the session's work, where there is any."""
        if event := self._events.get(str(request.session_hash)):
            event.set()
