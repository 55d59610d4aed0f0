"""A run's events.jsonl as its card and its figures show it: what a resumed run took back is left out.

Knows the file, not how it is written or what is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..core.records import EventLine

_OF_STEPS = ("step", "evaluation", "probe", "memory")


@dataclass(frozen=True)
class PinnedReview:
    """A review that was scored as the run went: probabilities by label before step 1, and at `step`, whose adapter was
    kept.
    """

    text: str
    before: dict[str, float]
    after: dict[str, float]
    step: int


def read_history(path: Path) -> list[EventLine]:
    """The events of the file at `path`, oldest first; [] where there is none. Lines that are torn are passed over.

    A resumed run's steps after the checkpoint it went on from are void: they come again.
    """
    events: list[EventLine] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        if event.get("event") == "resumed":
            events = [
                line for line in events if line.get("event") not in _OF_STEPS or line.get("step", 0) <= event["step"]
            ]
        events.append(cast(EventLine, event))
    return events


def pinned_reviews(events: Sequence[EventLine], kept_step: int | None = None) -> tuple[PinnedReview, ...]:
    """The pinned reviews in the order met; after: as scored at `kept_step`, or last where it was not scored then."""
    scored: dict[str, dict[int, dict[str, float]]] = {}
    for event in events:
        if event.get("event") == "probe":
            scored.setdefault(event["text"], {})[event["step"]] = event["probabilities"]
    reviews = []
    for text, steps in scored.items():
        last = kept_step if kept_step in steps else max(steps)
        if 0 in steps and last:
            reviews.append(PinnedReview(text, steps[0], steps[last], last))
    return tuple(reviews)
