"""Runs: started, stopped, resumed, renamed, deleted, listed and compared. Training itself happens in a worker.

`visitor`: who asks, as far as a public host can know: an address. `key`: that of the run, which proves whose it is.
`at_home`: asked from the page or the command line, where on a private host every run is the user's own. All functions
may be called from any thread, and raise DemoErrors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.config import RunConfig, refuse_changes
from ..core.paths import absolute_settings
from ..core.records import EventLine, RunSummary
from ..engine import importing
from ..host.host import Host, Started
from ..jobs import queue
from ..jobs.store import Job
from ..storage import uploads
from .compare import Compared, compare
from .downloads import check_model

log = logging.getLogger("qlora_demo")
LAST_EVENTS = 50


class TrainService:
    """The runs of one host."""

    def __init__(self, host: Host):
        self._host, self._store = host, host.store

    # --- one run -----------------------------------------------------------------------------------------------------

    def check(self, config: RunConfig) -> None:
        """Whether such a run may be started here. Raises SettingsError with all problems, HubError, ModelError."""
        self._host.check(config)
        check_model(self._host, config.model, config.revision)

    def start(self, config: RunConfig, visitor: str = "") -> Started:
        """Submits a run; it starts when the device is free. Raises RunError where the visitor may have no more."""
        self.check(config)
        config = self._with_paths(config)
        with importing():  # not the whole engine: neither needs torch
            from ..engine.models import adapters, sources

        sources.check_local(config.model)
        if config.start_from:
            adapters.find_adapter(config.start_from, self._host.home)
        return self._host.submit("train", config.to_dict(), visitor)

    def resume(
        self, run: str, key: str, asked: RunConfig | None = None, visitor: str = "", *, at_home: bool = False
    ) -> None:
        """Sends a run that did not finish back into the queue, to continue from its last checkpoint with its own
        settings. Raises SettingsError with all that differs in those `asked` for, where there are any."""
        self._host.check_key(run, key, at_home)
        if asked:
            refuse_changes(self._with_paths(asked), RunConfig.read(self._store.job(run).settings()))
        self._host.resume(run, visitor)

    def stop(self, run: str, key: str = "", *, at_home: bool = False) -> None:
        """Asks a run to stop."""
        self._host.check_key(run, key, at_home)
        queue.stop(self._store, run, launch=self._host.launch)

    def rename(self, run: str, name: str, key: str, *, at_home: bool = False) -> None:
        """Gives an ended run another name."""
        self._host.check_key(run, key, at_home)
        queue.rename(self._store, run, name)

    def delete(self, run: str, key: str, *, at_home: bool = False) -> None:
        """Removes an ended run and its adapter, or a classified file, as it was sent, and its results."""
        self._host.check_key(run, key, at_home)
        job = self._store.job(run)
        sent = job.settings().get("file", "") if job.state().kind == "classify" else ""
        queue.delete(self._store, run)
        if sent:
            try:
                uploads.drop(sent, self._host.home)
            except OSError as error:
                log.warning("%s could not be deleted: %s; it is deleted within a day.", sent, error.strerror)

    def settings(self, run: str) -> RunConfig:
        """What a run was asked for; an uploaded file by its name."""
        return self._with_names(self._store.job(run).settings())

    def suggestion(self, run: str, key: str) -> RunConfig | None:
        """The run's settings with the change that is predicted to fit, where its memory ran out, for its owner."""
        job = self._store.job(run)
        changes = (job.last_event() or {}).get("suggestion") if self._host.may_see(run, key) else None
        return self._with_names({**job.settings(), **changes}) if changes else None

    def last_event_number(self, run: str) -> int:
        """The `seq` of the run's last event, 0 before there is one."""
        last = self._store.job(run).last_event()
        return int(last["seq"]) if last else 0

    def follow(self, run: str, after: int = 0) -> Iterator[list[EventLine]]:
        """The run's events with a `seq` above `after`, in batches as they come, until it has ended."""
        return queue.follow(self._store, self._store.job(run), after)

    # --- what runs there are -----------------------------------------------------------------------------------------

    def job(self, run: str) -> Job:
        """The run, with the queue moved on. Raises RunError."""
        self._host.advance()
        return self._store.job(run)

    def summary(self, run: str) -> RunSummary:
        """A job's summary as the owner of this machine reads it, with paths."""
        return self.job(run).summary()

    def summaries(self) -> list[RunSummary]:
        """Summaries of the jobs of all kinds, newest first, as the owner of this machine reads them."""
        self._host.advance()
        return [job.summary() for job in self._store.jobs()]

    def folder(self, run: str) -> Path:
        """Where a job's files are."""
        return self._store.job(run).folder

    def runs(self) -> list[RunSummary]:
        """Summaries of the training runs, newest first, as anyone may read them."""
        self._host.advance()
        return [self._host.summarize(job) for job in self._store.jobs("train")]

    def report(self, run: str) -> dict[str, object]:
        """A run's summary and its last events, as anyone may read them; on a public host without pinned reviews."""
        job = self.job(run)
        events = [event for event in job.events()[-LAST_EVENTS:] if not self._host.public or event["event"] != "probe"]
        return {**self._host.summarize(job).to_dict(), "events": self._host.redact(job, "", events)}

    def compare(self, run: str, keys: Mapping[str, str]) -> list[Compared]:
        """The runs that have a result, newest first, with what differs from the settings of `run`; `keys`: by run."""
        compared = compare(self._store.states("train"), self.job(run))
        return [
            replace(
                one, changes=self._host.redact_changes(self._store.job(one.run), keys.get(one.run, ""), one.changes)
            )
            for one in compared
        ]

    # --- settings ----------------------------------------------------------------------------------------------------

    def _with_paths(self, config: RunConfig) -> RunConfig:
        """The settings for a worker: paths made absolute, an uploaded file's name as the path where it is kept."""
        path = uploads.locate(config.data, self._host.home)
        return RunConfig.read(absolute_settings(config.to_dict() | ({"data": path} if path else {})))

    def _with_names(self, settings: Mapping[str, Any]) -> RunConfig:
        """The settings for a page: an uploaded file by its name."""
        return RunConfig.read({**settings, "data": uploads.name_of(str(settings["data"]), self._host.home)})
