"""How often the pages that follow runs may ask: once a second while they are few, less often the more they are, so that
watching a run does not slow it down.

A run trains on the same processors that answer. An answer takes about 5 ms of one of them, and the others wait for it
at the end of every operation that they share."""

from __future__ import annotations

import threading

from ...host.environment import usable_cores

ANSWERS_PER_CORE = 1.5  # per second, to all pages together: less than 1 % of the processors
LEAST_SECONDS, MOST_SECONDS = 1.0, 5.0


class PollInterval:
    """Gives each page that asks the next free slot. Knows no pages: a slot whose page has left passes unused.

    Slots are evenly spaced, so that pages that were opened together do not ask together. Any thread may call.
    """

    def __init__(self, cores: int | None = None):
        self._spacing_seconds = 1 / (ANSWERS_PER_CORE * (cores or usable_cores()))
        self._lock = threading.Lock()
        self._last = 0.0

    def next_seconds(self, now: float) -> float:
        """Seconds from `now` (of a clock that never goes back) until the page should ask again; between LEAST_SECONDS
        and MOST_SECONDS.
        """
        with self._lock:
            slot = self._last + self._spacing_seconds
            self._last = min(max(slot, now + LEAST_SECONDS), now + MOST_SECONDS)
            return self._last - now
