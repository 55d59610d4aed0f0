"""Events of a job, and progress of work in this process, as lines for people to read in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.format import number, percent, shorten, size
from ..core.names import BASELINES
from ..core.records import Event, EventLine


class EventLines:
    """Events as lines; a phase whose progress hardly moved since its last line is passed over."""

    def __init__(self) -> None:
        self.text = ""
        self._phase: tuple[Any, ...] = ()

    def line(self, event: EventLine) -> bool:
        """Put the event's line into `text`; False where there is nothing worth a line."""
        kind = event["event"]
        if kind == "phase":
            progress = event.get("progress")
            phase = (event["name"], event.get("detail") if progress is None else int(progress * 10))
            if phase == self._phase:
                return False
            self._phase = phase
        self.text = _EVENTS[kind](event) if kind in _EVENTS else f"{kind}"
        return True


class Progress:
    """Events of work in this process, as notes."""

    def __init__(self, note: Callable[[str], None]):
        self._note, self._lines = note, EventLines()

    def __call__(self, event: Event) -> None:
        if self._lines.line(event.to_dict()):
            self._note(self._lines.text)


class Notes:
    """Progress (text, share done) as notes, each a new text or a tenth further."""

    def __init__(self, note: Callable[[str], None]):
        self._note, self._last = note, ("", -1)

    def __call__(self, text: str, share: float | None) -> None:
        step = ("", int(10 * share)) if share is not None else (text, -1)
        if step != self._last:
            self._last = step
            self._note(text)


def _phase(event: EventLine) -> str:
    detail = f": {event['detail']}" if event.get("detail") else ""
    share = event.get("progress")
    progress = f" ({100 * share:.0f} %)" if share is not None else ""
    return f"{event['name']}{detail}{progress}"


def _step(event: EventLine) -> str:
    return (
        f"  step {event['step']:>5}  epoch {event['epoch']:.2f}  loss {number(event['loss'])}  learning rate"
        f" {number(event['learning_rate'], '.2e')}  {number(event['reviews_per_second'], '.0f')} reviews/s "
        f" {size(event['memory_bytes'])}"
    )


def _scores(event: EventLine) -> str:
    stars = event.get("mae_stars")
    return (
        f"accuracy {percent(event['accuracy'])}  macro F1 {number(event['macro_f1'])}  loss {number(event['loss'])}"
        + (f"  off by {number(stars, '.2f')} stars" if stars is not None else "")
    )


def _probe(event: EventLine) -> str:
    label, share = max(event["probabilities"].items(), key=lambda item: item[1] or 0)
    return f"  probe after step {event['step']}: {label} ({percent(share)})  {shorten(event['text'])}"


def _gpu(event: EventLine) -> str:
    share, used = event.get("utilization"), event.get("memory_bytes")
    degrees, watts = event.get("celsius"), event.get("watts")
    known = [
        *([f"{100 * share:.0f} % busy"] if share is not None else []),
        *([f"{size(used)} in use"] if used is not None else []),
        *([f"{degrees:.0f} °C"] if degrees is not None else []),
        *([f"{watts:.0f} W"] if watts is not None else []),
    ]
    return f"  GPU: {', '.join(known) or 'no readings'}"


_EVENTS: dict[str, Callable[[EventLine], str]] = {
    "phase": _phase,
    "step": _step,
    "evaluation": lambda event: f"{event['split']} after step {event['step']}: {_scores(event)}",
    "baseline": lambda event: (
        f"baseline {BASELINES.get(event['name'], event['name'])} on {event['split']}: {_scores(event)}"
    ),
    "probe": _probe,
    "gpu": _gpu,
    "memory": lambda event: (
        f"memory {event['kind']}: predicted {size(event['predicted_bytes'])}, measured {size(event['measured_bytes'])}"
    ),
    "resumed": lambda event: f"continuing after step {event['step']}",
    "warning": lambda event: f"Note: {event['message']}",
    "finished": lambda event: (
        f"Run {event['run']} is {event['state']}" + (f"; report: {event['report']}" if event.get("report") else "")
    ),
}
