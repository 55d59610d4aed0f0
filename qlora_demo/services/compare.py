"""Training runs side by side: how each did on its test reviews, what it took, and in what its settings differ from
those of one.

Reads job folders. Knows neither pages nor who asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.config import RunConfig
from ..core.errors import DemoError
from ..core.run_report import RunReport
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


def compare(jobs: Sequence[tuple[Job, JobState]], reference: Job) -> list[Compared]:
    """The newest of `jobs` that have a result, in their order; `changes` as against `reference`. A damaged run has
    none."""
    base = _settings(reference)
    compared: list[Compared] = []
    for job, state in jobs:
        if len(compared) == COMPARED:
            break
        if state.is_final and (result := _read(job, state, base)):
            compared.append(result)
    tests = [one.test for one in compared]
    return [
        replace(one, unbeaten=tests.count(one.test) > 1 and not any(other.beats(one) for other in compared))
        for one in compared
    ]


def _read(job: Job, state: JobState, base: Mapping[str, object]) -> Compared | None:
    try:
        report, own = job.report(RunReport), _settings(job)
    except DemoError:  # not a report, or settings of another version
        return None
    if report is None or report.training is None or "test" not in report.final:
        return None
    test = report.final["test"]
    return Compared(
        run=job.id,
        name=state.name,
        state=state.state,
        changes=tuple((name, _word(own[name])) for name in own if own[name] != base.get(name)),
        # Reports of older versions know the digest of all reviews alone.
        test=report.data.test_sha256 or report.data.sha256,
        rows=test.rows,
        accuracy=test.accuracy,
        interval=test.intervals.get("accuracy"),
        mae_stars=test.mae_stars,
        seconds=report.training.seconds,
        peak_bytes=report.memory.peak_bytes,
        joules=report.energy.joules if report.energy else None,
    )


def _settings(job: Job) -> Mapping[str, object]:
    """What was asked for, with what this version adds to it. Raises RunError, SettingsError."""
    return {name: value for name, value in RunConfig.read(job.settings()).to_dict().items() if name not in SILENT}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) or "none"
