"""Stop buttons of work that runs in a handler: what one session has begun, and asks to end.

A closed page asks for nothing: the work goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr


class Stops:
    """For one kind of work, of which a session does one at a time."""

    def __init__(self) -> None:
        self._asked: dict[str, threading.Event] = {}

    @contextmanager
    def heard(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """While it lasts, the session's button is heard; yields what tells whether it was pressed."""
        session, asked = str(request.session_hash), threading.Event()
        self._asked[session] = asked
        try:
            yield asked.is_set
        finally:
            if self._asked.get(session) is asked:
                del self._asked[session]

    def ask(self, request: gr.Request) -> None:
        """The session's work is to end, where there is any."""
        if found := self._asked.get(str(request.session_hash)):
            found.set()
