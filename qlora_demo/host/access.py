"""Who may do what on a public host: the keys of runs, the visitors' places in the waiting line, and what the Hub says
of a model's size.

At home everything is allowed. A visitor is an address: a session can be forged, and proves nothing. It is kept in
memory, and only while a run of its is not over. Knows no page."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import engine
from ..core.config import RunConfig
from ..core.errors import RunError, SettingsError
from ..core.names import SAMPLE
from ..core.requests import ClassifyRequest, DataRequest, MemoryRequest
from ..jobs import queue
from ..jobs.store import Job, Store
from ..storage import packs, uploads
from . import limits
from .redaction import clean

_FILE_SETTINGS = ("data", "model", "file", "adapter", "start_from")
_UPLOAD_SETTINGS = (
    "text_column",
    "title_column",
    "label_column",
    "labels",
    "delimiter",
    "encoding",
)  # words of the file itself


class Strangers:
    """The rules of one app. `is_public`: whether strangers use it; `adapters`: the names of those that it offers.

    All functions may be called from any thread.
    """

    def __init__(self, store: Store, is_public: Callable[[], bool], adapters: Callable[[], set[str]]):
        self._store, self._is_public, self._adapters = store, is_public, adapters
        self._entering = threading.Lock()
        self._visitors: dict[str, str] = {}  # by run

    # --- what may be asked for ---------------------------------------------------------------------------------------

    def check(self, request: RunConfig | MemoryRequest | ClassifyRequest, *, loaded: bool = True) -> None:
        """Whether it may be asked for here; `loaded` as in limits.check. Raises SettingsError with all problems,
        HubError, ModelError.
        """
        if not self._is_public():
            return
        limits.check(request, self._adapters(), loaded=loaded)
        if isinstance(request, ClassifyRequest):
            if not uploads.is_upload(request.file, self._store.home):
                raise SettingsError({"file": "On a public host give a file that you uploaded."})
        else:
            self._weigh(request.model, request.revision)

    def check_names(self, request: RunConfig | MemoryRequest) -> None:
        """As `check`, for the model and the reviews alone."""
        if self._is_public():
            limits.check_names(request)
            self._weigh(request.model, request.revision)

    def check_base(self, model: str, revision: str) -> None:
        """As `check`, for the base of an adapter from the Hub."""
        if self._is_public():
            self._weigh(model, revision)

    def check_data(self, request: DataRequest) -> None:
        """As `check`, for what the Data tab reads."""
        if not self._is_public() or request.data == SAMPLE:
            return
        if request.hub:
            limits.check_data(request.data, request.revision)
        elif not uploads.is_upload(request.data, self._store.home):
            raise SettingsError({"data": "On a public host give a file that you uploaded."})

    def _weigh(self, model: str, revision: str) -> None:
        """A model that is not of the list: what the Hub says of its size, then its configuration."""
        engine.load()
        from ..engine.models import sources

        name = sources.canonical(model)
        if name in limits.MODELS | limits.SHAPES and not revision:
            return
        if sources.is_local(model) or Path(model).exists():
            raise SettingsError({"model": "On a public host a model is `sample` or a name on the Hub, never a path."})
        summary = sources.inspect_hub(name, revision)
        limits.check_size(name, summary.parameters, sum(file.size_bytes for file in summary.files))
        limits.check_shape(name, sources.read_config(sources.resolve(name, revision, config_only=True).folder))

    def keep(self, sent: str | Path) -> str:
        """Where an uploaded file is kept (uploads.keep), within the limits. Raises DataError."""
        if self._is_public():
            return str(
                uploads.keep(sent, self._store.home, most_bytes=limits.UPLOAD_BYTES, room_bytes=limits.ROOM_BYTES)
            )
        return str(uploads.keep(sent, self._store.home))

    def sweep(self, now: float | None = None) -> None:
        """Deletes files that were sent a day ago, zips of yesterday, and on a public host what became of a file. Raises
        OSError.
        """
        uploads.sweep(self._store.home, now)
        packs.sweep(self._store.home, now)
        before = (time.time() if now is None else now) - uploads.KEPT_SECONDS
        if self._is_public():
            for job, state in self._store.states("classify"):
                if state.is_final and (state.ended or state.created) < before:
                    queue.delete(self._store, job.id)

    # --- the waiting line --------------------------------------------------------------------------------------------

    def enter(self, visitor: str, submit: Callable[[], Job]) -> Job:
        """Has the job submitted where the visitor may have one more. Raises RunError."""
        if not self._is_public():
            return submit()
        with self._entering:
            active = [job.id for job, state in self._store.states() if not state.is_final]
            self._visitors = {run: who for run, who in self._visitors.items() if run in active}
            if len(active) >= limits.RUNS_IN_ALL:
                raise RunError(f"{len(active)} runs wait here already, and the line may hold no more; come back later.")
            if sum(who == visitor for who in self._visitors.values()) >= limits.RUNS_EACH:
                raise RunError(
                    f"You have {limits.RUNS_EACH} runs here that are not over, and may have no more; stop one, or wait."
                )
            job = submit()
            self._visitors[job.id] = visitor
            return job

    # --- whose a run is ----------------------------------------------------------------------------------------------

    def owns(self, run: str, key: str) -> bool:
        """Whether who has this key may be shown all of a run: at home, always. Raises RunError for an unknown run."""
        return not self._is_public() or self.fits(run, key)

    def fits(self, run: str, key: str) -> bool:
        """Whether the key is that of the run. Raises RunError."""
        return isinstance(key, str) and hmac.compare_digest(hash_key(key), self._store.job(run).state().key_hash)

    def check_key(self, run: str, key: str, at_home: bool) -> None:
        """Raises RunError for who may not change a run. `at_home`: the page asks, which on a private host needs no
        key.
        """
        if not (at_home and not self._is_public()) and not self.fits(run, key):
            raise RunError(
                f"The key does not belong to run {run}; only who started a run can stop, resume, rename or delete it."
            )

    def may_read(self, run: str, key: str) -> bool:
        """Whether the reviews of a run may be listed to who has this key: those of an upload are its owner's alone.
        Raises RunError.
        """
        return self.owns(run, key) or not self._upload_names(self._store.job(run))

    def tell(self, job: Job, key: str, told: Any) -> Any:
        """What is told of a run, fit for who asks: names for paths, and for others no name of an uploaded file."""
        return clean(told, () if self.owns(job.id, key) else self._upload_names(job))

    def tell_changes(self, job: Job, key: str, changes: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Settings (name, value) of a run, fit for who asks: others hear nothing of what is in an upload. Raises
        RunError.
        """
        hidden = () if self.may_read(job.id, key) else _UPLOAD_SETTINGS
        return tuple((name, self.tell(job, key, value)) for name, value in changes if name not in hidden)

    def summarize(self, job: Job, key: str = "") -> dict[str, Any]:
        """The run's summary with names for paths; an upload has its name for its owner alone. Raises RunError."""
        summary = job.summary()
        known: Mapping[str, Any] = {
            name: Path(str(summary[name])).name for name in ("model", "data") if _is_path(summary[name])
        }
        found: dict[str, Any] = self.tell(job, key, {**summary, **known})
        return found

    def _upload_names(self, job: Job) -> list[str]:
        named = [str(job.settings().get(name, "")) for name in _FILE_SETTINGS]
        # By where it lay: the file itself may have been deleted since.
        return [Path(path).name for path in named if uploads.was_upload(path, self._store.home)]


def hash_key(key: str) -> str:
    """What is kept of a run's key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~", "."))
