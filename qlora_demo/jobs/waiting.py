"""The queue's order, and how long a waiting job will wait, from all jobs' states. Knows neither locks nor workers."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from .events import last_event
from .state import JobState

LAST_RUNS = 5  # whose durations predict the next one's
States = dict[str, JobState]  # by job


def in_line(states: States) -> list[str]:
    """The queued jobs, first come first."""
    queued = {run: state for run, state in states.items() if state.state == "queued"}
    return sorted(queued, key=lambda run: (queued[run].waiting_since or queued[run].created, run))


def position(states: States, run: str) -> int | None:
    """The job's place in the line of those that need the device: 1 = next; None where it does not wait for it."""
    line = [other for other in in_line(states) if not states[other].beside]
    return line.index(run) + 1 if run in line else None


def expected_wait(home: Path, states: States, run: str) -> float | None:
    """Seconds until a waiting job would start: what the active job has left, and what runs like those ahead in line
    took.

    None where it does not wait, and where nothing is known: a kind of which no run has come to its end.
    """
    place = position(states, run)
    if place is None:
        return None
    active = [other for other, state in states.items() if state.is_active and not state.beside]
    ahead = [other for other in in_line(states) if not states[other].beside][: place - 1]
    seconds = [_left(home, states, other) for other in active]
    seconds += [_usual_seconds(states, states[other].kind) for other in ahead]
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def _left(home: Path, states: States, run: str) -> float | None:
    """What an active job has emitted last of the time it has left, less what has passed since; else by its kind."""
    state = states[run]
    # What it emitted before it was last started, as a run that was then resumed, is no longer true.
    path, began = home / run / "events.jsonl", state.started or 0.0
    event = last_event(path, lambda event: event.get("seconds_left") is not None or event["time"] < began)
    left = event.get("seconds_left") if event is not None and event["time"] >= began else None
    if event is not None and left is not None:
        return max(0.0, left - (time.time() - event["time"]))
    usual = _usual_seconds(states, state.kind)
    return None if usual is None else max(0.0, usual - (time.time() - (state.started or state.created)))


def _usual_seconds(states: States, kind: str) -> float | None:
    """How long the last runs of a kind took that came to their end; None where there is none."""
    spans = [
        (state.ended, state.started)
        for state in states.values()
        if state.kind == kind and state.state in ("done", "stopped") and state.ended and state.started
    ]
    took = [ended - started for ended, started in sorted(spans, reverse=True)]
    return statistics.median(took[:LAST_RUNS]) if took else None
