"""What the page and the HTTP interface are handed: engine and jobs as plain functions.

The engine (and with it torch) is imported by the functions that need it, first of all by a warm-up thread once the page
is up. Knows nothing of gradio."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import engine
from ..core.config import RunConfig, refuse_changes
from ..core.errors import HubError, RunError
from ..core.memory_report import MemoryReport, StepReport
from ..core.paths import absolute_settings
from ..core.presets import choose_preset
from ..core.records import Columns, Download, Event, Fit, Machine, Prediction
from ..core.requests import ClassifyRequest, MemoryRequest
from ..core.safety import BESIDE_SHARE
from ..engine import building, importing
from ..host import limits
from ..host.access import Strangers, hash_key
from ..host.environment import on_zero_gpu, storage_words, zero_gpu_words
from ..jobs import queue
from ..jobs.launch import start_worker
from ..jobs.store import Job, Kind, Store
from ..storage import uploads
from ..storage.corrections import Feedback
from .classify import SAMPLE, Classifiers
from .compare import Compared, compare
from .data import Examiner
from .learn import Studies
from .memory import predict_step, report_memory
from .publish import Publisher

log = logging.getLogger("qlora_demo")
LAST_EVENTS = 50
SWEEP_SECONDS = 3600.0


@dataclass(frozen=True)
class Started:
    """A submitted run; who holds the key may stop it."""

    run: str
    key: str


class Services:
    """The app's functions and the little state they share: the run store, classifiers, facts about the machine."""

    def __init__(self, store: Store, *, public: bool = False, launch: queue.Launch = start_worker):
        self.store = store
        self.public = public
        self._launch = launch
        self._machine: Future[Machine] = Future()
        self.strangers = Strangers(store, lambda: self.public, lambda: {name for _, name in self.adapters()})
        self.classifiers = Classifiers(store, lambda: self.public, self.strangers.check_base)
        self.examiner = Examiner(lambda: self.public, self.strangers.check_data)
        self.feedback = Feedback(store.home)
        self.publisher = Publisher(store.home, self.strangers.owns)
        self.studies = Studies(store)
        self._swept = -SWEEP_SECONDS
        self._fits: dict[tuple[Any, ...], list[Fit]] = {}

    # --- the machine -------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Looks at the machine and loads the shipped adapter, in a thread: the page does not wait for it."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def machine(self) -> Machine:
        """Facts about this machine; waits for the warm-up to have found them."""
        return self._machine.result()

    def _warm_up(self) -> None:
        try:
            self._machine.set_result(_look(self.store.home))
        except Exception as error:  # handed to whoever asks
            log.exception("The machine could not be looked at")
            self._machine.set_exception(error)
            return
        try:
            self.classifiers.classify_both("Works well.")
        except Exception:
            log.exception("The shipped adapter could not be loaded")

    # --- memory ------------------------------------------------------------------------------------------------------

    def predict_memory(self, request: MemoryRequest) -> MemoryReport:
        """The predicted ledger without a step; no weight is read or fetched. Raises DemoErrors."""
        self.strangers.check(request, loaded=False)
        engine.load()
        with building:
            return report_memory(request.model_copy(update={"batch_size": 0}), _unheard, lambda: False, ("predicted",))

    def predict_step(self, request: MemoryRequest) -> StepReport:
        """What a training step takes. Raises DemoErrors."""
        self.strangers.check(request, loaded=False)
        engine.load()
        with building:
            return predict_step(request)

    def find_fits(self, request: MemoryRequest) -> list[Fit]:
        """On which GPUs and Spaces a training fits, and at which batch; worked out once for a shape. Raises
        DemoErrors.
        """
        self.strangers.check(request, loaded=False)
        engine.load()
        from ..engine.memory import fitting
        from ..engine.models import sources

        source = sources.resolve(request.model, request.revision, config_only=True)
        asked = (source.name, request.revision, request.labels, request.length, request.gradient_checkpointing)
        with building:
            if asked not in self._fits:
                budgets = fitting.hardware_budgets(
                    source, request.labels, request.length, gradient_checkpointing=request.gradient_checkpointing
                )
                self._fits[asked] = fitting.fit_hardware(budgets)
            return self._fits[asked]

    def start_measuring(self, request: MemoryRequest, predicted: MemoryReport, visitor: str = "") -> Started:
        """A job that measures what was predicted; at once where it is small, else when the device is free. `visitor`:
        as in `start_run`.

        Raises DemoErrors.
        """
        self.strangers.check(request)
        if self.public:  # random weights may be as many as their configuration likes
            limits.check_size(request.model, predicted.parameters, 0)
        engine.load()
        from ..engine.models.device import free_memory_bytes

        largest = max(stage.total_bytes for stage in predicted.stages)
        beside = self.machine().device == "cpu" and largest * BESIDE_SHARE < free_memory_bytes("cpu")
        return self._submit("memory", request.to_dict(), visitor, beside=beside)

    # --- the Hub -----------------------------------------------------------------------------------------------------

    def needed_downloads(self, request: MemoryRequest | RunConfig) -> list[Download]:
        """What the Hub would have to send before the job can begin: model, reviews. Raises DemoErrors."""
        self.strangers.check_names(request)
        engine.load()
        from ..engine.data import dataset, hub
        from ..engine.models import sources

        found = []
        if request.model != SAMPLE and not sources.is_local(request.model):
            try:
                found.append(sources.inspect_hub(sources.canonical(request.model), request.revision))
            except HubError as error:
                # A Hub that does not answer is no hindrance where all of the model is in its cache.
                try:
                    sources.resolve(request.model, request.revision, download=False)
                except HubError:
                    raise error from None
        if (
            isinstance(request, RunConfig)
            and not uploads.locate(request.data, self.store.home)
            and dataset.is_on_hub(request.data)
        ):
            found.append(hub.inspect_reviews(request.data, request.data_config, request.data_revision))
        return [
            Download(it.id, it.kind, it.download_bytes, it.free_disk_bytes, it.license, it.gated)
            for it in found
            if not it.cached
        ]

    # --- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, config: RunConfig, visitor: str = "") -> Started:
        """Submits a run; it starts when the device is free. `visitor`: who asks, as far as a public host can know: an
        address.

        Raises DemoErrors, RunError where runs cannot be kept, or where the visitor may have no more.
        """
        self.strangers.check(config)
        engine.load()
        from ..engine.models import adapters, sources

        config = self._with_places(config)
        sources.check_local(config.model)
        if config.start_from:
            adapters.find_adapter(config.start_from, self.store.home)
        return self._submit("train", config.to_dict(), visitor)

    def settings(self, run: str) -> RunConfig:
        """What a run was asked for. Raises RunError, SettingsError."""
        return self._named(self.store.job(run).settings())

    def suggestion(self, run: str, key: str) -> RunConfig | None:
        """The run's settings with the change that is predicted to fit, where its memory ran out, for its owner; else
        None.
        """
        job = self.store.job(run)
        if not self.strangers.owns(run, key):
            return None
        found = (job.last_event() or {}).get("suggestion")
        return self._named({**job.settings(), **found}) if found else None

    def _with_places(self, config: RunConfig) -> RunConfig:
        """The settings for a worker: paths made absolute, an uploaded file's name as the place where it is kept. Raises
        DemoErrors.
        """
        place = uploads.locate(config.data, self.store.home)
        return RunConfig.read(absolute_settings(config.to_dict() | ({"data": place} if place else {})))

    def _named(self, settings: dict[str, Any]) -> RunConfig:
        """The settings for a page: an uploaded file goes by its name."""
        return RunConfig.read({**settings, "data": uploads.name_of(str(settings["data"]), self.store.home)})

    # --- files of reviews --------------------------------------------------------------------------------------------

    def preview_file(self, path: str, text: str = "", title: str = "", label: str = "") -> dict[str, Any]:
        """How a file would be read, with its first rows (filing.preview); columns as named, "" = found. Raises
        DataError.
        """
        engine.load()
        from ..engine.classify import classify_file

        return classify_file.preview(Path(path), Columns(text=text, title=title, label=label))

    def start_classifying(self, request: ClassifyRequest, visitor: str = "") -> Started:
        """A job that classifies a file; at once where the model is small, else when the device is free. `visitor`: as
        in `start_run`.

        Raises DemoErrors.
        """
        self.strangers.check(request)
        engine.load()
        from ..engine.data.reading import tables
        from ..engine.models import adapters
        from ..engine.models.device import free_memory_bytes

        if self.public:
            limits.check_rows(len(chunk.rows) for chunk in tables.open_table(Path(request.file)).chunks())
        folder = adapters.find_adapter(request.adapter, self.store.home)
        parameters = adapters.read_parameters(folder)
        small = parameters is not None and 4 * parameters * BESIDE_SHARE < free_memory_bytes("cpu")
        adapter = str(folder) if os.sep in request.adapter else request.adapter
        settings = {**request.to_dict(), "file": os.path.abspath(request.file), "adapter": adapter}
        return self._submit("classify", settings, visitor, beside=self.machine().device == "cpu" and small)

    def _submit(self, kind: Kind, settings: dict[str, Any], visitor: str, beside: bool = False) -> Started:
        key = secrets.token_urlsafe(18)
        options: dict[str, Any] = {"key_hash": hash_key(key), "beside": beside, "launch": self._launch}
        return Started(
            self.strangers.enter(visitor, lambda: queue.submit(self.store, kind, settings, **options)).id, key
        )

    def stop_run(self, run: str, key: str, *, at_home: bool = False) -> None:
        """Asks a run to stop. `at_home`: asked for by the page on a private host, whose user owns every run. Raises
        RunError.
        """
        self.strangers.check_key(run, key, at_home)
        queue.stop(self.store, run, launch=self._launch)

    def resume_run(
        self, run: str, key: str, asked: RunConfig | None = None, visitor: str = "", *, at_home: bool = False
    ) -> None:
        """Sends a run that did not come to its end back into the line, to go on from its last checkpoint. As
        `stop_run`.

        It goes on with its own settings. Raises SettingsError with all that differs in those `asked` for, where there
        are any."""
        self.strangers.check_key(run, key, at_home)
        if asked:
            refuse_changes(self._with_places(asked), RunConfig.read(self.store.job(run).settings()))
        self.strangers.enter(visitor, lambda: queue.resume(self.store, run, launch=self._launch))

    def rename_run(self, run: str, name: str, key: str, *, at_home: bool = False) -> None:
        """Another name for an ended run; as `stop_run`."""
        self.strangers.check_key(run, key, at_home)
        queue.rename(self.store, run, name)

    def delete_run(self, run: str, key: str, *, at_home: bool = False) -> None:
        """Removes an ended run and its adapter, or a classified file, as it was sent, and its results; as
        `stop_run`.
        """
        self.strangers.check_key(run, key, at_home)
        job = self.store.job(run)
        sent = job.settings().get("file", "") if job.state().kind == "classify" else ""
        queue.delete(self.store, run)
        if sent:
            try:
                uploads.drop(sent, self.store.home)
            except OSError as error:
                log.warning("%s could not be deleted: %s; it goes within a day.", sent, error.strerror)

    def job(self, run: str) -> Job:
        """The run, with the waiting line moved on. Raises RunError."""
        self.advance()
        return self.store.job(run)

    def runs(self) -> list[dict[str, Any]]:
        """Summaries of the training runs, newest first; no path of this machine, and no name of an upload that others
        sent.
        """
        self.advance()
        return [self.strangers.summarize(job) for job in self.store.jobs("train")]

    def tell(self, run: str) -> dict[str, Any]:
        """A run's summary and its last events, as anyone may be told; on a public host without its pinned reviews.
        Raises RunError.
        """
        job = self.job(run)
        events = [event for event in job.events()[-LAST_EVENTS:] if not self.public or event["event"] != "probe"]
        return {**self.strangers.summarize(job), "events": self.strangers.tell(job, "", events)}

    def compare_runs(self, run: str, keys: Mapping[str, str]) -> list[Compared]:
        """The runs that have a result, newest first, with what differs from the settings of `run` (comparing.compare);
        `keys`: run to key, of who asks. Raises RunError, SettingsError."""
        found = compare(self.store.states("train"), self.job(run))
        return [
            replace(
                one, changes=self.strangers.tell_changes(self.store.job(one.run), keys.get(one.run, ""), one.changes)
            )
            for one in found
        ]

    def advance(self) -> None:
        """Moves the waiting line on. A home that can only be read can still be shown, so its refusal is for who
        submits.
        """
        if time.monotonic() - self._swept > SWEEP_SECONDS:  # also where nobody uploads any more
            self._swept = time.monotonic()
            with suppress(OSError, RunError):  # another process may sweep, too
                self.strangers.sweep()
        try:
            queue.advance(self.store, launch=self._launch)
        except RunError as error:
            log.warning("%s", error)

    # --- classification: the page's short ways to `classifiers` ------------------------------------------------------

    def classify(self, text: str, adapter: str = SAMPLE, calibrated: bool = False) -> Prediction:
        """One typed review by a tuned network; `calibrated`: see Classifier.classify. Raises DemoErrors."""
        return self.classifiers.classify(text, adapter, calibrated)

    def adapters(self) -> list[tuple[str, str]]:
        """(what to show, name) of the shipped adapter and of every run that has one, newest first."""
        return self.classifiers.adapters()

    def correct(self, text: str, adapter: str, label: str) -> int:
        """Keeps a user's word on which label a review should have had; how many are kept. Raises DemoErrors."""
        self.classifiers.place_of(label, adapter)
        return self.feedback.add(text, label, adapter=adapter, answered=self.classify(text, adapter).label)


def _look(home: Path) -> Machine:
    with importing():  # the page's head waits for the machine, and torch is enough for it
        from ..engine.models import sources
        from ..engine.models.device import choose_device

    # On ZeroGPU there is a GPU inside a call alone; what torch tells of one here is played.
    device = replace(choose_device("cpu"), reason=zero_gpu_words()) if on_zero_gpu() else choose_device()
    gpu_bytes = device.memory_bytes if device.kind == "cuda" else 0
    reachable = sources.hub_reachable()
    preset, why = choose_preset(gpu_bytes, reachable)
    return Machine(
        device.kind,
        device.name,
        device.reason,
        device.memory_bytes,
        gpu_bytes,
        reachable,
        preset,
        why,
        storage_words(home),
    )


def _unheard(event: Event) -> None:
    """Progress that nobody waits for."""
