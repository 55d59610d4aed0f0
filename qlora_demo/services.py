"""What the page and the HTTP interface are handed: engine and jobs as plain functions.

The engine (and with it torch) is imported by the functions that need it, first of all by a warm-up thread once the page is
up. Knows nothing of gradio.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import uploads
from .classifying import SAMPLE, Classifiers
from .config import ClassifyRequest, MemoryRequest, RunConfig, refuse_changes
from .errors import DemoError, HubError, ModelError, RunError, SettingsError
from .examining import Examiner
from .feedback import Feedback
from .jobs import queue
from .jobs.launch import start_worker
from .jobs.store import Job, Kind, Store
from .paths import absolute_settings
from .presets import choose_preset
from .records import Columns, Download, Event, Fit, Machine, Prediction
from .uploads import is_upload
from .weighing import predict_step, weigh

if TYPE_CHECKING:
    from .engine.explore import Layer

log = logging.getLogger("qlora_demo")
MEASURE_BESIDE = 4  # a measurement that takes less than a quarter of the free memory need not wait for the device


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
        # PEFT and transformers patch torch's modules for the whole process while they build one: no two builds at a time.
        self._building = threading.Lock()
        # They import themselves in circles, too: two threads that begin at different ends break each other's import.
        self._importing = threading.Lock()
        self.classifiers = Classifiers(store, lambda: self.public, self._building, self._import_engine)
        self.examiner = Examiner(self._import_engine)
        self.feedback = Feedback(store.home)
        self._fits: dict[tuple[Any, ...], list[Fit]] = {}
        self._shapes: dict[str, dict[str, Any]] = {}
        self._layers: dict[str, dict[str, Layer]] = {}  # by model

    # --- the machine -------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Looks at the machine and loads the shipped adapter, in a thread: the page does not wait for it."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def machine(self) -> Machine:
        """Facts about this machine; waits for the warm-up to have found them."""
        return self._machine.result()

    def _warm_up(self) -> None:
        try:
            with self._importing:  # the machine first: the page's head waits for it, and torch is enough
                found = _look()
            self._machine.set_result(found)
        except Exception as error:  # handed to whoever asks
            log.exception("The machine could not be looked at")
            self._machine.set_exception(error)
            return
        try:
            self.classifiers.classify_both("Works well.")
        except Exception:
            log.exception("The shipped adapter could not be loaded")

    def _import_engine(self) -> None:
        with self._importing:
            from .engine import explore, inference  # noqa: F401 - with them come torch, transformers and peft

    # --- memory ------------------------------------------------------------------------------------------------------

    def predict_memory(self, request: MemoryRequest) -> dict[str, Any]:
        """The predicted ledger without a step, as `weigh` reports it; no weight is read or fetched. Raises DemoErrors."""
        self._import_engine()
        with self._building:
            return weigh(request.model_copy(update={"batch_size": 0}), _unheard, lambda: False, ways=("predicted",))

    def predict_step(self, request: MemoryRequest) -> dict[str, Any]:
        """What a training step takes, as `weigh` reports it. Raises DemoErrors."""
        self._import_engine()
        with self._building:
            return predict_step(request)

    def find_fits(self, request: MemoryRequest) -> list[Fit]:
        """On which GPUs and Spaces a training fits, and at which batch; worked out once for a shape. Raises DemoErrors."""
        self._import_engine()
        from .engine import fitting, sources

        source = sources.resolve(request.model, request.revision, config_only=True)
        asked = (source.name, request.revision, request.labels, request.length, request.gradient_checkpointing)
        with self._building:
            if asked not in self._fits:
                budgets = fitting.hardware_budgets(
                    source, request.labels, request.length, gradient_checkpointing=request.gradient_checkpointing
                )
                self._fits[asked] = fitting.fit_hardware(budgets)
            return self._fits[asked]

    def start_measuring(self, request: MemoryRequest, predicted: dict[str, Any]) -> Started:
        """A job that measures what was predicted; at once where it is small, else when the device is free. Raises RunError."""
        self._import_engine()
        from .engine.device import free_memory_bytes

        largest = max(stage["total_bytes"] for stage in predicted["stages"])
        beside = self.machine().device == "cpu" and largest * MEASURE_BESIDE < free_memory_bytes("cpu")
        return self._submit("memory", request.to_dict(), beside=beside)

    # --- the Learn tab -----------------------------------------------------------------------------------------------

    def predict_shape(self, model: str) -> dict[str, Any]:
        """How a model shrinks whose shape the app carries; a prediction never changes, so it is made once. Raises ModelError."""
        self._import_engine()
        from .engine import explore

        with self._building:
            if model not in self._shapes:
                self._shapes[model] = explore.predict_shape(model)
            return self._shapes[model]

    def studied_model(self) -> str:
        """The model that was weighed last, where its weights are here; else the sample."""
        self._import_engine()
        from .engine import sources

        job = self.latest("memory")
        if job is None or job.report() is None:
            return SAMPLE
        model = str(job.settings()["model"])
        try:
            return model if sources.resolve(model, download=False).has_weights else SAMPLE
        except DemoError:
            return SAMPLE

    def list_layers(self, model: str = SAMPLE) -> list[tuple[str, tuple[int, int]]]:
        """Names and shapes of a model's quantizable layers; nothing is downloaded for them. Raises DemoErrors."""
        return [(layer.name, layer.shape) for layer in self._layers_of(model).values()]

    def examine_layer(self, model: str, name: str, kind: str, block_size: int, double: bool, weights: str) -> dict[str, Any]:
        """One layer of a model quantized in numpy. Raises DemoErrors."""
        self._import_engine()
        from .engine import explore, sources

        explore.check_choice(kind, block_size, weights)
        layer = self._layers_of(model).get(str(name))
        if layer is None:
            raise ModelError(f"{model} has no quantizable layer {str(name)[:80]!r}; choose one of the list.")
        own = explore.read_weights(sources.resolve(model, download=False), layer)
        return explore.examine(explore.choose_weights(own, weights), kind, block_size, bool(double))  # type: ignore[arg-type]

    def optimizer_state(self, model: str = SAMPLE) -> dict[str, Any]:
        """Bytes of AdamW's state: of the shipped run, or of training every weight of a model whose shape is carried. Raises DemoErrors."""
        self._import_engine()
        from .engine import explore, inference

        if model == SAMPLE:
            return explore.optimizer_of_run(inference.find_adapter(SAMPLE))
        return explore.optimizer_state(self.predict_shape(model)["parameters"])

    def _layers_of(self, model: str) -> dict[str, Layer]:
        self._import_engine()
        from .engine import explore, sources

        with self._building:
            if model not in self._layers:
                self._layers[model] = explore.list_layers(sources.resolve(model, download=False))
            return self._layers[model]

    # --- the Hub -----------------------------------------------------------------------------------------------------

    def needed_downloads(self, request: MemoryRequest | RunConfig) -> list[Download]:
        """What the Hub would have to send before the job can begin: model, reviews. Raises DemoErrors."""
        self._import_engine()
        from .engine import data, hubdata, sources

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
        if isinstance(request, RunConfig) and not uploads.locate(request.data, self.store.home) and data.is_on_hub(request.data):
            found.append(hubdata.inspect_reviews(request.data, request.data_config, request.data_revision))
        return [Download(it.id, it.kind, it.download_bytes, it.free_disk_bytes, it.license, it.gated) for it in found if not it.cached]

    # --- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, config: RunConfig) -> Started:
        """Submits a run; it starts when the device is free. Raises DemoErrors, RunError where runs cannot be kept."""
        self._import_engine()
        from .engine import inference, sources

        config = self._with_places(config)
        sources.check_local(config.model)
        if config.start_from:
            inference.find_adapter(config.start_from, self.store.home)
        return self._submit("train", config.to_dict())

    def settings(self, run: str) -> RunConfig:
        """What a run was asked for. Raises RunError, SettingsError."""
        return self._named(self.store.job(run).settings())

    def suggestion(self, run: str) -> RunConfig | None:
        """The run's settings with the change that is predicted to fit, where its memory ran out; else None. Raises RunError."""
        job = self.store.job(run)
        found = (job.last_event() or {}).get("suggestion")
        return self._named({**job.settings(), **found}) if found else None

    def _with_places(self, config: RunConfig) -> RunConfig:
        """The settings for a worker: paths made absolute, an uploaded file's name as the place where it is kept. Raises DemoErrors."""
        place = uploads.locate(config.data, self.store.home)
        found = RunConfig.read(absolute_settings(config.to_dict() | ({"data": place} if place else {})))
        for name in ("model", "data", "start_from"):
            if self.public and os.path.isabs(getattr(found, name)) and not (name == "data" and place):
                raise SettingsError({name: f"The {name} is a path; on a public host give `sample`, a run or a Hub id."})
        return found

    def _named(self, settings: dict[str, Any]) -> RunConfig:
        """The settings for a page: an uploaded file goes by its name."""
        return RunConfig.read({**settings, "data": uploads.name_of(str(settings["data"]), self.store.home)})

    # --- files of reviews --------------------------------------------------------------------------------------------

    def preview_file(self, path: str, text: str = "", title: str = "", label: str = "") -> dict[str, Any]:
        """How a file would be read, with its first rows (filing.preview); columns as named, "" = found. Raises DataError."""
        self._import_engine()
        from .engine import filing

        return filing.preview(Path(path), Columns(text=text, title=title, label=label))

    def start_classifying(self, request: ClassifyRequest) -> Started:
        """A job that classifies a file; at once where the model is small, else when the device is free. Raises DemoErrors."""
        self._import_engine()
        from .engine import inference
        from .engine.device import free_memory_bytes

        if self.public and not (is_upload(request.file, self.store.home) and request.adapter in {name for _, name in self.adapters()}):
            raise SettingsError({"file": "On a public host give a file that you uploaded, and an adapter of the list."})
        folder = inference.find_adapter(request.adapter, self.store.home)
        parameters = inference.count_parameters(folder)
        small = parameters is not None and 4 * parameters * MEASURE_BESIDE < free_memory_bytes("cpu")
        adapter = str(folder) if os.sep in request.adapter else request.adapter
        settings = {**request.to_dict(), "file": os.path.abspath(request.file), "adapter": adapter}
        return self._submit("classify", settings, beside=self.machine().device == "cpu" and small)

    def _submit(self, kind: Kind, settings: dict[str, Any], beside: bool = False) -> Started:
        key = secrets.token_urlsafe(18)
        job = queue.submit(self.store, kind, settings, key_hash=_hash(key), beside=beside, launch=self._launch)
        return Started(job.id, key)

    def stop_run(self, run: str, key: str, *, at_home: bool = False) -> None:
        """Asks a run to stop. `at_home`: asked for by the page on a private host, whose user owns every run. Raises RunError."""
        self._check_key(run, key, at_home)
        queue.stop(self.store, run, launch=self._launch)

    def resume_run(self, run: str, key: str, asked: RunConfig | None = None, *, at_home: bool = False) -> None:
        """Sends a run that did not come to its end back into the line, to go on from its last checkpoint. As `stop_run`.

        It goes on with its own settings. Raises SettingsError with all that differs in those `asked` for, where there are any.
        """
        self._check_key(run, key, at_home)
        if asked:
            refuse_changes(self._with_places(asked), RunConfig.read(self.store.job(run).settings()))
        queue.resume(self.store, run, launch=self._launch)

    def rename_run(self, run: str, name: str, key: str, *, at_home: bool = False) -> None:
        """Another name for an ended run; as `stop_run`."""
        self._check_key(run, key, at_home)
        queue.rename(self.store, run, name)

    def delete_run(self, run: str, key: str, *, at_home: bool = False) -> None:
        """Removes an ended run and its adapter; as `stop_run`."""
        self._check_key(run, key, at_home)
        queue.delete(self.store, run)

    def job(self, run: str) -> Job:
        """The run, with the waiting line moved on. Raises RunError."""
        self.advance()
        return self.store.job(run)

    def runs(self) -> list[dict[str, Any]]:
        """Summaries of the training runs, newest first."""
        self.advance()
        return [job.summary() for job in self.store.jobs("train")]

    def latest(self, kind: Kind) -> Job | None:
        """The active job of a kind, else the newest; None where there is none."""
        found = self.store.states(kind)
        active = [job for job, state in found if not state.is_final]
        return active[-1] if active else found[0][0] if found else None

    def _check_key(self, run: str, key: str, at_home: bool) -> None:
        if not (at_home and not self.public) and not hmac.compare_digest(_hash(key), self.store.job(run).state().key_hash):
            raise RunError(f"The key does not belong to run {run}; only who started a run can stop, resume, rename or delete it.")

    def advance(self) -> None:
        """Moves the waiting line on. A home that can only be read can still be shown, so its refusal is for who submits."""
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


def bits_of_constants(block_size: int) -> tuple[float, float]:
    """Bits of quantization constants a weight, without and with double quantization."""
    from .engine import nf4

    return nf4.bits_of_constants(block_size, False), nf4.bits_of_constants(block_size, True)


def _look() -> Machine:
    from .engine import sources
    from .engine.device import choose_device

    device = choose_device()
    gpu_bytes = device.memory_bytes if device.kind == "cuda" else 0
    reachable = sources.hub_reachable()
    preset, why = choose_preset(gpu_bytes, reachable)
    return Machine(device.kind, device.name, device.reason, device.memory_bytes, gpu_bytes, reachable, preset, why)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _unheard(event: Event) -> None:
    """Progress that nobody waits for."""
