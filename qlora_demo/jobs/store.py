"""Job folders: home/<id>/ with config.json, state.json, events.jsonl, stop, report.json, worker.log.

A folder is the whole truth about a job; every reader (page, command line, another process) sees the same.
Knows how to read and write one job; which job runs when is the queue's, and what a job does is the worker's.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..errors import RunError
from ..records import Finished
from .events import EventWriter, last_event, read_events
from .state import Heartbeat, JobState, StateWriter, read_state, to_json, write_state

__all__ = ["EventWriter", "Heartbeat", "Job", "JobState", "Kind", "StateWriter", "Store", "default_home", "to_json"]

Kind = Literal["train", "memory"]

_ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4,12}")
_LOCK_SECONDS = 10.0


def default_home() -> Path:
    """QLORA_DEMO_HOME, or `runs` beside app.py; absolute."""
    named = os.environ.get("QLORA_DEMO_HOME")
    home = Path(named).expanduser() if named else Path(__file__).parents[2] / "runs"
    return home.absolute()


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
            raise RunError(f"Run {self.id} is no longer in {self.folder.parent}; `python -m qlora_demo runs` lists what is.")
        return state.true()

    def events(self, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Events with a `seq` above `after`, oldest first, at most `limit`; [] where there are none (yet)."""
        return read_events(self.folder / "events.jsonl", after, limit)

    def last_event(self) -> dict[str, Any] | None:
        """The newest event, None before there is one; only the end of the file is read."""
        return last_event(self.folder / "events.jsonl")

    def report(self) -> dict[str, Any] | None:
        """report.json, None before there is one."""
        return _read_json(self.folder / "report.json")

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

    def summary(self) -> dict[str, Any]:
        """What `runs` and `show` print; `position` 1 is the next to start, None where it does not wait."""
        state = self.state()
        settings = _read_json(self.folder / "config.json") or {}
        return {
            "run": self.id, "state": state.state, "kind": state.kind, "name": state.name,
            "model": settings.get("model"), "data": settings.get("data"),
            "steps_done": state.steps_done, "steps_total": state.steps_total,
            "metrics": self._metrics(state), "position": Store(self.folder.parent).position(self),
            "created": state.created, "error": state.error,
        }  # fmt: skip

    def _metrics(self, state: JobState) -> dict[str, Any] | None:
        """Of the report's test split where there is one, else the latest evaluation so far."""
        final = (self.report() or {}).get("final") if state.is_final and state.kind == "train" else None
        for split in ("test", "validation"):
            if isinstance(final, dict) and isinstance(final.get(split), dict):
                names = ("loss", "accuracy", "macro_f1", "mae_stars")
                return {"split": split, **{name: final[split].get(name) for name in names}}
        return state.metrics

    def finish(self, state: JobState, final: str, error: str | None = None) -> JobState:
        """Append the finished event, then write `state` with its end.

        In this order: who sees a final state finds the finished event. For the worker, or under the queue's lock.
        """
        report = self.folder / "report.json"
        last = self.last_event()
        if not (last and last.get("event") == Finished.event):
            EventWriter(self.folder).write(Finished(final, error, str(report) if report.exists() else None))
        ended = replace(state, state=final, error=error, ended=time.time())
        write_state(self.folder, ended)
        return ended

    def settle(self) -> JobState:
        """Write down the end of a job whose worker is gone; under the queue's lock. Raises RunError, OSError."""
        stored = read_state(self.folder)
        state = self.state()
        if stored is None or not stored.is_active or not state.is_final:
            return state
        last = self.last_event()
        if last and last.get("event") == Finished.event:
            # The worker died between its two last writes: it had come to its end.
            return self.finish(stored, last["state"], last["error"])
        return self.finish(stored, state.state, state.error)


class Store:
    """All jobs below `home`; what else lies there is left alone."""

    def __init__(self, home: Path):
        self.home = Path(home)

    def create(self, kind: Kind, settings: dict[str, Any], *, name: str = "", key_hash: str = "", beside: bool = False) -> Job:
        """A new queued job. `beside`: need not wait for the device. Raises RunError where home cannot be written."""
        created = time.time()
        state = JobState("queued", kind=kind, name=name, created=created, key_hash=key_hash, beside=beside)
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            folder = self._new_folder(created)
            (folder / "config.json").write_text(to_json(settings) + "\n", encoding="utf-8")
            # Last, because the folder is a job from here on.
            write_state(folder, state)
        except OSError as error:
            raise self._not_writable(error) from error
        return Job(folder)

    def job(self, run_id: str) -> Job:
        """The job called `run_id`; RunError where there is none (a path is never an id)."""
        if isinstance(run_id, str) and _ID.fullmatch(run_id):
            folder = self.home / run_id
            if read_state(folder):
                return Job(folder)
        shown = repr(run_id) if len(repr(run_id)) <= 60 else repr(run_id)[:57] + "..."
        raise RunError(f"There is no run {shown} in {self.home}; `python -m qlora_demo runs` lists those there are.")

    def jobs(self, kind: Kind | None = None) -> list[Job]:
        """Newest first. An absent home holds none; one that cannot be read raises RunError."""
        return [job for job, _ in self.states(kind)]

    def states(self, kind: Kind | None = None) -> list[tuple[Job, JobState]]:
        """The jobs with their true states, newest first; each state is read once."""
        try:
            names = [name for name in os.listdir(self.home) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"Runs in {self.home} cannot be read: {error.strerror}; {_ELSEWHERE}.") from error
        found = [(Job(self.home / name), state.true()) for name in names if (state := read_state(self.home / name))]
        found = [(job, state) for job, state in found if kind in (None, state.kind)]
        return sorted(found, key=lambda item: (item[1].created, item[0].id), reverse=True)

    def position(self, job: Job) -> int | None:
        """The job's place in the waiting line: 1 = next; None where it does not wait."""
        state = read_state(job.folder)
        if state is None or state.state != "queued" or state.beside:
            return None
        line = [other.id for other, its in self.waiting() if not its.beside]
        return line.index(job.id) + 1 if job.id in line else None

    def waiting(self) -> list[tuple[Job, JobState]]:
        """The queued jobs with their states, first come first."""
        queued = [(job, state) for job, state in self.states() if state.state == "queued"]
        return sorted(queued, key=lambda item: (item[1].waiting_since or item[1].created, item[0].id))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The queue's lock, between threads and processes; not reentrant.

        RunError after 10 s of waiting, and where home cannot be written, in the body too.
        """
        path = self.home / ".cache" / "queue.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a")
        except OSError as error:
            raise self._not_writable(error) from error
        with handle:
            _flock(handle.fileno(), path)
            try:
                yield
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
        return RunError(f"Runs cannot be kept in {self.home}: {error.strerror}; {_ELSEWHERE}.")


_ELSEWHERE = "set QLORA_DEMO_HOME (or --runs-dir) to a folder that can be written"


def _flock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                sentence = f"Another process has held the queue of runs for {_LOCK_SECONDS:.0f} s; try again, or see who has {path} open."
                raise RunError(sentence) from None
            time.sleep(0.01)
        except OSError as error:
            raise RunError(f"{path} cannot be locked: {error.strerror}; {_ELSEWHERE}.") from error


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
