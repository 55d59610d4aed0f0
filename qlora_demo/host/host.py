"""The machine that serves: public or not, where files are kept, whose turn it is, and how a job enters the queue.

There is one in a process; page, HTTP interface and command line share it. Knows settings and folders, not what a job
does, and neither engine nor page."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.config import RunConfig
from ..core.errors import DeviceError, RunError, SettingsError
from ..core.names import SAMPLE
from ..core.requests import ClassifyRequest, DataRequest, MemoryRequest
from ..jobs import queue
from ..jobs.launch import start_worker
from ..jobs.store import Job, Kind, Store
from ..storage import packs, uploads
from . import limits
from .access import Access, hash_key

log = logging.getLogger("qlora_demo")
SWEEP_SECONDS = 3600.0


@dataclass(frozen=True)
class Started:
    """A submitted job; who holds the key may stop it."""

    run: str
    key: str


class Host(Access):
    """One app's machine. Who asks is a `visitor`, an address as far as a public host can know it: it is kept in memory,
    and only while a job of that visitor has not ended. Any thread may call."""

    def __init__(self, store: Store, *, public: bool = False, launch: queue.Launch = start_worker):
        super().__init__(store, public=public)
        self.launch = launch
        self._turns = {action: threading.Semaphore(at_once) for action, (at_once, _) in limits.TURNS.items()}
        self._submitting = threading.Lock()
        self._visitors: dict[str, str] = {}  # by job
        self._swept = -SWEEP_SECONDS

    @property
    def home(self) -> Path:
        return self.store.home

    # --- limits and turns --------------------------------------------------------------------------------------------

    def check(self, request: RunConfig | MemoryRequest | ClassifyRequest, *, loaded: bool = True) -> None:
        """Whether settings may be asked for here; `loaded` as in limits.check. Raises SettingsError."""
        if self.public:
            limits.check(request, self.adapter_names(), loaded=loaded)
            if isinstance(request, ClassifyRequest):
                self._check_upload("file", request.file)

    def check_data(self, request: DataRequest) -> None:
        """Whether these reviews may be read here. Raises SettingsError."""
        if self.public and request.hub:
            limits.check_data(request.data, request.revision)
        elif self.public and request.data != SAMPLE:
            self._check_upload("data", request.data)

    def check_text(self, text: str) -> None:
        """Raises DataError for a review that is too long for a public host."""
        if self.public:
            limits.check_text(text)

    def adapter_names(self) -> set[str]:
        """The adapters that are offered here: the shipped one, and those of runs by their ids."""
        return {SAMPLE, *(job.id for job in self.adapter_runs())}

    def adapter_runs(self) -> list[Job]:
        """The runs that have an adapter, newest first."""
        return [job for job in self.store.jobs("train") if (job.folder / "adapter").is_dir()]

    @contextmanager
    def turn(self, action: str) -> Iterator[None]:
        """Around an expensive action, by its name in limits.TURNS: so many are done at a time.

        At home others wait for their turn; on a public host DeviceError at once."""
        turns, (_, doing) = self._turns[action], limits.TURNS[action]
        if not turns.acquire(blocking=not self.public):
            raise DeviceError(f"The server is busy {doing} for others; try again in ten seconds.")
        try:
            yield
        finally:
            turns.release()

    # --- files -------------------------------------------------------------------------------------------------------

    def keep(self, sent: str | Path) -> str:
        """Where an uploaded file is kept (uploads.keep), within the limits. Raises DataError."""
        most = {"most_bytes": limits.UPLOAD_BYTES, "room_bytes": limits.ALL_UPLOADS_BYTES} if self.public else {}
        return str(uploads.keep(sent, self.home, **most))

    @property
    def pack_limit(self) -> packs.Limit:
        return packs.PUBLIC_LIMIT if self.public else packs.LIMIT

    def sweep(self, now: float | None = None) -> None:
        """Deletes uploads and zips older than a day, and on a public host what became of a file. Raises OSError."""
        uploads.sweep(self.home, now)
        packs.sweep(self.home, now, self.pack_limit)
        before = (time.time() if now is None else now) - uploads.KEPT_SECONDS
        if self.public:
            for job, state in self.store.states():
                if state.kind in ("classify", "merge") and state.is_final and (state.ended or state.created) < before:
                    queue.delete(self.store, job.id)

    def _check_upload(self, field: str, path: str) -> None:
        if not uploads.is_upload(path, self.home):
            raise SettingsError({field: "On a public host give a file that you uploaded."})

    # --- the queue ---------------------------------------------------------------------------------------------------

    def submit(self, kind: Kind, settings: Mapping[str, object], visitor: str = "", *, beside: bool = False) -> Started:
        """A new job in the queue. `beside`: it need not wait for the device. Raises RunError."""
        key = secrets.token_urlsafe(18)
        job = self._enter(
            visitor,
            lambda: queue.submit(self.store, kind, settings, key_hash=hash_key(key), beside=beside, launch=self.launch),
        )
        return Started(job.id, key)

    def resume(self, run: str, visitor: str = "") -> None:
        """The run goes back into the queue. Raises RunError."""
        self._enter(visitor, lambda: queue.resume(self.store, run, launch=self.launch))

    def advance(self) -> None:
        """Moves the queue on. A home that can only be read can still be shown: its refusal is for who submits."""
        if time.monotonic() - self._swept > SWEEP_SECONDS:  # also where nobody uploads any more
            self._swept = time.monotonic()
            with suppress(OSError, RunError):  # another process may sweep, too
                self.sweep()
        try:
            queue.advance(self.store, launch=self.launch)
        except RunError as error:
            log.warning("%s", error)

    def _enter(self, visitor: str, submit: Callable[[], Job]) -> Job:
        """Has the job submitted where the visitor may have one more. Raises RunError."""
        if not self.public:
            return submit()
        with self._submitting:
            active = {job.id for job, state in self.store.states() if not state.is_final}
            self._visitors = {run: who for run, who in self._visitors.items() if run in active}
            limits.check_queue(len(active), sum(who == visitor for who in self._visitors.values()))
            job = submit()
            self._visitors[job.id] = visitor
            return job
