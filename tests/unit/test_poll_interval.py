"""How often watching pages are told to ask: in turns that are evenly apart, never so late that a page seems dead."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qlora_demo.ui.train.poll_interval import ANSWERS_PER_CORE, LEAST_SECONDS, MOST_SECONDS, PollInterval

CORES = 2


def asked_in(pages: int, seconds: float) -> list[float]:
    """When these pages ask, all opened at once; each as soon as it may."""
    pace = PollInterval(CORES)
    times, turns = [], [100.0] * pages
    while (now := min(turns)) < 100 + seconds:
        times.append(now)
        turns[turns.index(now)] = now + pace.next_seconds(now)
    return times


def test_few_pages_ask_once_a_second() -> None:
    assert len(asked_in(1, 60)) == 60
    assert len(asked_in(3, 60)) == pytest.approx(180, abs=6)


def test_ten_pages_ask_no_more_than_the_processors_allow() -> None:
    times = asked_in(10, 60)[10:]  # after all have opened
    assert len(times) <= ANSWERS_PER_CORE * CORES * 60
    apart = [later - sooner for sooner, later in pairwise(times)]
    assert min(apart) == pytest.approx(max(apart)) == pytest.approx(1 / (ANSWERS_PER_CORE * CORES))


def test_nobody_waits_longer_than_a_page_can_seem_alive() -> None:
    pace = PollInterval(CORES)
    waits = [pace.next_seconds(100.0) for _ in range(1_000)]
    assert waits[0] == LEAST_SECONDS
    assert max(waits) == MOST_SECONDS
    assert pace.next_seconds(200.0) == LEAST_SECONDS  # who asked too often is not remembered for long
