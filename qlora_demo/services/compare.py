"""Training runs side by side: how each did on its test reviews, what it took, and in what its settings differ from
those of one.

Reads job folders. Knows neither pages nor who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.config import RunConfig
from ..core.errors import DemoError
from ..jobs.store import Job, JobState

COMPARED = 30  # runs, the newest
SILENT = ("pinned", "log_every")  # settings that change no result


@dataclass(frozen=True)
class Compared:
    """One run. `changes`: (setting, its value in words) where it is not that of the run compared with; shares from 0 to
    1.

    interval: 95 %, of the accuracy. test: which reviews it was judged on, by a digest. seconds: of the training with
    its evaluations. unbeaten: no other run here that was judged on the same reviews is at least as accurate, as quick
    and as small, and better in one."""

    run: str
    name: str
    state: str
    changes: tuple[tuple[str, str], ...]
    test: str
    rows: int
    accuracy: float
    interval: tuple[float, float] | None
    mae_stars: float | None
    seconds: float
    peak_bytes: int
    joules: float | None
    unbeaten: bool = False

    def beats(self, other: Compared) -> bool:
        mine, its = ((-it.accuracy, it.seconds, it.peak_bytes) for it in (self, other))
        return (
            self.test == other.test
            and mine != its
            and all(here <= there for here, there in zip(mine, its, strict=True))
        )


def compare(found: Sequence[tuple[Job, JobState]], reference: Job) -> list[Compared]:
    """The newest runs of `found` that have a result, in its order; `changes` as against `reference`. A damaged report
    counts as none.
    """
    base = _settings(reference)
    compared: list[Compared] = []
    for job, state in found:
        if len(compared) == COMPARED:
            break
        if state.is_final and (report := job.report()) and (one := _read(job, state, report, base)):
            compared.append(one)
    alike = [one.test for one in compared]
    return [
        replace(one, unbeaten=alike.count(one.test) > 1 and not any(other.beats(one) for other in compared))
        for one in compared
    ]


def _read(job: Job, state: JobState, report: dict[str, Any], base: dict[str, Any]) -> Compared | None:
    try:
        test, own = report["final"]["test"], _settings(job)
        ends = (test.get("intervals") or {}).get("accuracy")
        return Compared(
            run=job.id,
            name=state.name,
            state=state.state,
            changes=tuple((name, _word(own[name])) for name in own if own[name] != base.get(name)),
            # Reports of older versions know the digest of all reviews alone.
            test=str(report["data"].get("test_sha256") or report["data"]["sha256"]),
            rows=int(test["rows"]),
            accuracy=float(test["accuracy"]),
            interval=(float(ends[0]), float(ends[1])) if ends else None,
            mae_stars=test.get("mae_stars"),
            seconds=float(report["training"]["seconds"]),
            peak_bytes=int(report["memory"]["peak_bytes"]),
            joules=(report.get("energy") or {}).get("joules"),
        )
    except (DemoError, AttributeError, KeyError, TypeError, ValueError):  # not a report, or one of another version
        return None


def _settings(job: Job) -> dict[str, Any]:
    """What was asked for, with what this version adds to it. Raises RunError, SettingsError."""
    return {name: value for name, value in RunConfig.read(job.settings()).to_dict().items() if name not in SILENT}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) or "none"
