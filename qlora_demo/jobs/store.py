"""Job folders: home/<id>/ with config.json, state.json, events.jsonl, stop, report.json, worker.log.

A folder is the whole truth about a job; every reader (page, command line, another process) sees the same.
Knows how to read and write one job; which job runs when is the queue's, and what a job does is the worker's.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import shutil
import string
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from filelock import FileLock, Timeout

from ..core.errors import ReportError, RunError, is_disk_full
from ..core.records import Answer, EventLine, Finished, RunSummary, Scores
from . import waiting
from .events import EventWriter, last_event, read_events
from .state import JobState, StateWriter, read_state, to_json, write_state

if TYPE_CHECKING:
    from ..core.report import Report  # brings pydantic, which who only reads states does not need

__all__ = ["EventWriter", "Job", "JobState", "Kind", "StateWriter", "Store", "to_json"]

Kind = Literal["train", "memory", "classify", "merge"]
AnyReport = TypeVar("AnyReport", bound="Report")

_ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4,12}")
_LOCK_SECONDS = 10.0
# What a job's folder holds only while it is worked on: removed at its end, whatever that was.
RESERVE = ".reserve"
DRAFTS = (RESERVE, ".state.*", ".report.json", "*.draft", "*.old")
_RESERVE_BYTES = 64 * 1024


class Job:
    """One job's folder. Reading needs no lock; a job that has gone raises RunError."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.id = folder.name

    def settings(self) -> dict[str, Any]:
        """config.json as it was submitted."""
        settings = _read_json(self.folder / "config.json")
        if settings is None:
            raise RunError(f"The settings of run {self.id} cannot be read; delete {self.folder} and start it anew.")
        return settings

    def state(self) -> JobState:
        """The true state: an active job whose worker is gone reads as `interrupted`, settled or not."""
        state = read_state(self.folder)
        if state is None:
            raise RunError(
                f"Run {self.id} is no longer in {self.folder.parent}; `python -m qlora_demo runs` lists what is."
            )
        return state.true()

    def events(self, after: int = 0, limit: int | None = None) -> list[EventLine]:
        """Events with a `seq` above `after`, oldest first, at most `limit`; [] where there are none (yet)."""
        return read_events(self.folder / "events.jsonl", after, limit)

    def last_event(self) -> EventLine | None:
        """The newest event, None before there is one; only the end of the file is read."""
        return last_event(self.folder / "events.jsonl")

    def report(self, kind: type[AnyReport]) -> AnyReport | None:
        """report.json as the job's kind of report, None before there is one. Raises ReportError where it is none.

        Pages ask for the reports of all runs again and again: each version of a file is parsed once."""
        path = self.folder / "report.json"
        try:
            file = path.stat()
            return cast(AnyReport, _parse_once(kind, path, file.st_ino, file.st_mtime_ns, file.st_size))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReportError(f"The report of run {self.id} cannot be read: {error.strerror}.") from error

    def answers(self) -> list[Answer]:
        """answers.jsonl, a line for each validation and test review; [] where the run wrote none (yet)."""
        try:
            return [json.loads(line) for line in (self.folder / "answers.jsonl").read_bytes().splitlines()]
        except (OSError, ValueError):
            return []

    def is_gone(self) -> bool:
        """Whether the job was deleted; then its folder may be there yet, written by a worker that does not know."""
        return not (self.folder / "state.json").exists()

    def request_stop(self) -> None:
        """Ask the worker to stop at its next step. For what the queue should know use `queue.stop`."""
        try:
            (self.folder / "stop").touch()
        except OSError as error:
            raise RunError(f"Run {self.id} cannot be stopped: {error.strerror} ({self.folder}).") from error

    def stop_requested(self) -> bool:
        return (self.folder / "stop").exists()

    def size_bytes(self) -> int:
        """What the run takes on the disk: adapter, checkpoints, events, log."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def summary(self) -> RunSummary:
        """The job in a few words, from its settings, state, place in the queue and result."""
        state = self.state()
        settings = _read_json(self.folder / "config.json") or {}
        store = Store(self.folder.parent)
        return RunSummary(
            run=self.id,
            state=state.state,
            kind=state.kind,
            name=state.name,
            model=settings.get("model"),
            data=settings.get("data"),
            steps_done=state.steps_done,
            steps_total=state.steps_total,
            metrics=self._metrics(state),
            position=store.position(self),
            wait_seconds=store.expected_wait(self),
            created=state.created,
            error=state.error,
        )

    def _metrics(self, state: JobState) -> Scores | None:
        """Of the report's test split where there is one, else the latest evaluation so far."""
        if state.is_final and state.kind == "train":
            with suppress(OSError):
                path = self.folder / "report.json"
                file = path.stat()
                if metrics := _final_metrics(path, file.st_ino, file.st_mtime_ns, file.st_size):
                    return metrics.copy()
        return state.metrics

    def finish(
        self, state: JobState, final: str, error: str | None = None, suggestion: Mapping[str, object] | None = None
    ) -> JobState:
        """Append the finished event, then write `state` with its end. Raises OSError.

        In this order: who sees a final state finds the finished event. For the worker, or under the queue's lock.
        """
        self._complete()
        self._drop_drafts()
        report = self.folder / "report.json"
        if self._last_words(state) is None:
            EventWriter(self.folder).write(Finished(final, error, str(report) if report.exists() else None, suggestion))
        ended = replace(state, state=final, error=error, ended=time.time())
        write_state(self.folder, ended)
        return ended

    def settle(self) -> JobState:
        """Write down the end of a job whose worker is gone; under the queue's lock. Raises RunError, OSError."""
        stored = read_state(self.folder)
        state = self.state()
        if stored is None or not stored.is_active or not state.is_final:
            return state
        last = self._last_words(stored)
        if last:
            # The worker died between its two last writes: it had come to its end.
            return self.finish(stored, last["state"], last["error"])
        return self.finish(stored, state.state, state.error)

    def _last_words(self, state: JobState) -> EventLine | None:
        """The finished event of this start of the job; a resumed job's last event may be that of the end before."""
        last, since = self.last_event(), state.started or state.waiting_since or state.created
        return last if last and last.get("event") == Finished.event and last["time"] >= since - 0.001 else None

    def reserve(self) -> None:
        """Take a little of the disk, so that the end of the job can be written down on a full one. Raises OSError."""
        with (self.folder / RESERVE).open("wb") as file:
            file.write(os.urandom(_RESERVE_BYTES))
            # Else a file system may find out later that there was no room.
            os.fsync(file.fileno())

    def _complete(self) -> None:
        """Puts results into place where a worker was killed while it did (engine.train.run.put_into_place): all drafts
        were whole by then, and the adapter of before has been moved away. Raises OSError."""
        adapter, old, draft = (self.folder / f"adapter{end}" for end in ("", ".old", ".draft"))
        between = old.exists() and draft.exists() and not adapter.exists()
        if between or (adapter.exists() and (self.folder / "report.json.draft").exists() and not draft.exists()):
            for name in ("adapter", "answers.jsonl", "report.json"):
                if (path := self.folder / f"{name}.draft").exists():
                    path.replace(self.folder / name)
        elif old.exists() and not adapter.exists():
            old.rename(adapter)

    def _drop_drafts(self) -> None:
        """Remove what a worker that did not come to its end has left half-written, and the reserve."""
        for pattern in DRAFTS:
            for path in self.folder.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


class Store:
    """All jobs below `home`; what else lies there is left alone."""

    def __init__(self, home: Path):
        self.home = Path(home)

    def create(
        self, kind: Kind, settings: Mapping[str, object], *, name: str = "", key_hash: str = "", beside: bool = False
    ) -> Job:
        """A new queued job. `beside`: need not wait for the device. Raises RunError where home cannot be written."""
        created = time.time()
        state = JobState("queued", kind=kind, name=name, created=created, key_hash=key_hash, beside=beside)
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            job = Job(self._new_folder(created))
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            (job.folder / "config.json").write_text(to_json(settings) + "\n", encoding="utf-8")
            job.reserve()
            # Last, because the folder is a job from here on.
            write_state(job.folder, state)
        except OSError as error:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise self._not_writable(error) from error
        return job

    def job(self, run_id: str) -> Job:
        """The job called `run_id`; RunError where there is none (a path is never an id)."""
        if isinstance(run_id, str) and _ID.fullmatch(run_id):
            folder = self.home / run_id
            if read_state(folder):
                return Job(folder)
        quoted = repr(run_id) if len(repr(run_id)) <= 60 else repr(run_id)[:57] + "..."
        raise RunError(f"There is no run {quoted}; `python -m qlora_demo runs` lists those there are.")

    def jobs(self, kind: Kind | None = None) -> list[Job]:
        """Newest first. An absent home holds none; one that cannot be read raises RunError."""
        return [job for job, _ in self.states(kind)]

    def states(self, kind: Kind | None = None) -> list[tuple[Job, JobState]]:
        """The jobs with their true states, newest first; each state is read once."""
        try:
            jobs = [Job(self.home / name) for name in os.listdir(self.home) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"Runs in {self.home} cannot be read: {error.strerror}; {_ELSEWHERE}.") from error
        states = [(job, state.true()) for job in jobs if (state := read_state(job.folder))]
        states = [(job, state) for job, state in states if kind in (None, state.kind)]
        return sorted(states, key=lambda item: (item[1].created, item[0].id), reverse=True)

    def latest(self, kind: Kind) -> Job | None:
        """The active job of a kind, else the newest; None where there is none."""
        states = self.states(kind)
        active = [job for job, state in states if not state.is_final]
        return active[-1] if active else states[0][0] if states else None

    def position(self, job: Job) -> int | None:
        """The job's place in the queue: 1 = next; None where it does not wait."""
        state = read_state(job.folder)
        return waiting.position(self._by_id(), job.id) if state and state.state == "queued" else None

    def expected_wait(self, job: Job) -> float | None:
        """Seconds until a waiting job would start (waiting.expected_wait); None where it does not wait, or nothing is
        known.
        """
        state = read_state(job.folder)
        return waiting.expected_wait(self.home, self._by_id(), job.id) if state and state.state == "queued" else None

    def waiting(self) -> list[tuple[Job, JobState]]:
        """The queued jobs with their states, first come first."""
        states = self._by_id()
        return [(Job(self.home / run), states[run]) for run in waiting.in_line(states)]

    def _by_id(self) -> dict[str, JobState]:
        return {job.id: state for job, state in self.states()}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The queue's lock, between threads and processes; not reentrant.

        RunError after 10 s of waiting, and where home cannot be written, in the body too.
        """
        path = self.home / ".cache" / "queue.lock"
        lock = FileLock(path, timeout=_LOCK_SECONDS, poll_interval=0.01, is_singleton=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with lock:
                yield
        except Timeout:
            raise RunError(
                f"Another process has held the queue of runs for {_LOCK_SECONDS:.0f} s; try again, or see who has"
                f" {path} open."
            ) from None
        except OSError as error:
            raise self._not_writable(error) from error

    def _new_folder(self, created: float) -> Path:
        stamp = datetime.fromtimestamp(created, UTC).strftime("%Y%m%d-%H%M%S")
        while True:
            tail = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(6))
            folder = self.home / f"{stamp}-{tail}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue

    def _not_writable(self, error: OSError) -> RunError:
        if is_disk_full(error):
            return RunError(f"The disk of {self.home} is full; free some space and try again.")
        return RunError(f"Runs cannot be kept in {self.home}: {error.strerror}; {_ELSEWHERE}.")


_ELSEWHERE = "set QLORA_DEMO_HOME (or --runs-dir) to a folder that can be written"


@functools.lru_cache(maxsize=500)
def _parse_once(kind: type[Report], path: Path, *_version: int) -> Report:
    return kind.parse(path.read_bytes(), f"The report of run {path.parent.name}")


@functools.lru_cache(maxsize=2000)
def _final_metrics(path: Path, *_version: int) -> Scores | None:
    """What a summary says of a run's result: each version of a report is parsed once, however often runs are listed."""
    final = (_read_json(path) or {}).get("final")
    for split in ("test", "validation"):
        if isinstance(final, dict) and isinstance(final.get(split), dict):
            names = ("loss", "accuracy", "macro_f1", "mae_stars")
            return cast(Scores, {"split": split, **{name: final[split].get(name) for name in names}})
    return None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
