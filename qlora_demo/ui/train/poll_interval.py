"""How often the pages that watch runs may ask: once a second while they are few, less often the more they are, so that
those who look do not slow what they look at.

A run trains on the same processors that answer. An answer takes about 5 ms of one of them, and the others wait for it
at the end of every operation that they share."""

from __future__ import annotations

import threading

from ...host.environment import usable_cores

ANSWERS_PER_CORE = 1.5  # a second, to all pages together: less than 1 % of the processors
LEAST_SECONDS, MOST_SECONDS = 1.0, 5.0  # a page hears when it may ask again; the more there are, the later


class Pace:
    """Gives each page that asks the next free turn. Knows no pages: a turn whose page has left passes unused.

    Turns are evenly apart, so that pages that were opened together do not ask together. Any thread may call.
    """

    def __init__(self, cores: int | None = None):
        self._apart = 1 / (ANSWERS_PER_CORE * (cores or usable_cores()))
        self._lock = threading.Lock()
        self._last = 0.0

    def next_turn(self, now: float) -> float:
        """Seconds from `now` (of a clock that never goes back) until the page should ask again; between LEAST and
        MOST_SECONDS.
        """
        with self._lock:
            self._last = min(max(self._last + self._apart, now + LEAST_SECONDS), now + MOST_SECONDS)
            return self._last - now
