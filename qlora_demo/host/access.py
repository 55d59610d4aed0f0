"""Who may see and do what: on a public host a run belongs to who has its key; at home everything is allowed.

Knows job folders and uploads, and no page. A session can be forged, so it proves nothing here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import RunError
from ..core.records import RunSummary
from ..jobs.store import Job, Store
from ..storage import uploads
from .redaction import clean

T = TypeVar("T")
_FILE_SETTINGS = ("data", "model", "file", "adapter", "start_from")
# Settings whose values are words of the file itself.
_UPLOAD_SETTINGS = ("text_column", "title_column", "label_column", "labels", "delimiter", "encoding")


class Access:
    """The rules of one app. `public`: anybody on the internet may use it. All functions may be called from any thread,
    and raise RunError for an unknown run."""

    def __init__(self, store: Store, *, public: bool = False):
        self.store, self.public = store, public

    def has_key(self, run: str, key: str) -> bool:
        """Whether the key is that of the run."""
        return isinstance(key, str) and hmac.compare_digest(hash_key(key), self.store.job(run).state().key_hash)

    def may_see(self, run: str, key: str) -> bool:
        """Whether who has this key may see all of a run, and take its adapter away."""
        return not self.public or self.has_key(run, key)

    def may_read(self, run: str, key: str) -> bool:
        """Whether who has this key may read the reviews of a run: those of an upload are its owner's alone."""
        return self.may_see(run, key) or not self._upload_names(self.store.job(run))

    def check_key(self, run: str, key: str, at_home: bool) -> None:
        """Raises RunError for who may not change a run. `at_home`: asked from the page or the command line, which on a
        private host need no key."""
        if not (at_home and not self.public) and not self.has_key(run, key):
            raise RunError(
                f"The key does not belong to run {run}; only who started a run can stop, resume, rename or delete it."
            )

    def redact(self, job: Job, key: str, value: T) -> T:
        """A value of a run for who has this key: names for paths, and for others no name of an uploaded file."""
        return clean(value, () if self.may_see(job.id, key) else self._upload_names(job))

    def redact_changes(self, job: Job, key: str, changes: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Settings (name, value) of a run for who has this key: nothing of an upload's content for others."""
        hidden = () if self.may_read(job.id, key) else _UPLOAD_SETTINGS
        return tuple((name, self.redact(job, key, value)) for name, value in changes if name not in hidden)

    def summarize(self, job: Job, key: str = "") -> RunSummary:
        """The run's summary with names for paths; the name of an upload for its owner alone."""
        summary = job.summary()
        fields = vars(summary)
        names = {name: Path(str(fields[name])).name for name in ("model", "data") if _is_path(fields[name])}
        return RunSummary(**self.redact(job, key, fields | names))

    def _upload_names(self, job: Job) -> list[str]:
        paths = [str(job.settings().get(name, "")) for name in _FILE_SETTINGS]
        # By where it lay: the file itself may have been deleted since.
        return [Path(path).name for path in paths if uploads.was_upload(path, self.store.home)]


def hash_key(key: str) -> str:
    """What is stored of a run's key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~", "."))
