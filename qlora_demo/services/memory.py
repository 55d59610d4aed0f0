"""How much memory a model takes at each stage of QLoRA and in a training step: one report for the job, the page and the
command line.

The engine counts; this puts its answers together, and is the one place that writes and reads the report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached

from .. import engine
from ..core.cancellation import DownloadStopped, never
from ..core.errors import DemoError, DeviceError
from ..core.format import size
from ..core.memory_report import Architecture, MemoryReport, MemoryStage, ProcessReading, StepReport
from ..core.names import STAGES
from ..core.records import Event, Fit, MemoryReading, Notice, Phase
from ..core.requests import MemoryRequest
from ..core.safety import STEP_MARGIN
from ..engine import importing
from ..host import limits
from ..host.host import Host, Started
from ..jobs import fresh_process
from .downloads import check_model
from .machine import MachineService

if TYPE_CHECKING:
    from ..engine.models.blueprint import Blueprint
    from ..engine.models.sources import ModelSource

Emit = Callable[[Event], None]
ShouldStop = Callable[[], bool]
FITS_KEPT = 16  # answers; each takes some ten seconds to compute


def report_memory(
    request: MemoryRequest, emit: Emit, should_stop: ShouldStop, ways: Collection[str] = ("predicted", "measured")
) -> MemoryReport:
    """One model at each stage of QLoRA, predicted and measured as `ways` says, and the training step asked for.

    Emits phases, and a reading for each measured stage. Raises DemoErrors; DownloadStopped when a stop was asked for.
    """
    with importing():
        from ..engine.memory import calculators, ledger
        from ..engine.models.blueprint import read_blueprint
    source = _find_model(request, "measured" in ways, emit, should_stop)
    emit(Phase("predict", "predicting from the configuration"))
    blueprint = read_blueprint(source, request.labels)
    shape = (request.stages, request.rank, request.targets)
    predicted = ledger.predict(blueprint, *shape)
    measured: list[MemoryStage] = []
    process: list[ProcessReading] = []
    if "measured" in ways:
        expected = {stage.name: stage.total_bytes for stage in predicted}
        emit(_measuring(request.stages, 0))

        def on_stage(stage: MemoryStage, reading: ProcessReading) -> None:
            measured.append(stage)
            process.append(reading)
            emit(MemoryReading(stage.name, expected[stage.name], stage.total_bytes))
            if len(measured) < len(request.stages):
                emit(_measuring(request.stages, len(measured)))

        ledger.measure(
            blueprint, *shape, random_weights=request.random_weights, should_stop=should_stop, on_stage=on_stage
        )
    step = (
        _report_step(request, blueprint, emit, should_stop, measured="measured" in ways) if request.batch_size else None
    )
    return MemoryReport(
        model=request.model,
        parameters=blueprint.parameters,
        stages=(*(predicted if "predicted" in ways else ()), *measured),
        process=tuple(process),
        step=step,
        architecture=Architecture(rows=tuple(ledger.architecture(blueprint))),
        estimates=tuple(calculators.estimates(blueprint.base_parameters, blueprint.config.to_dict())),
    )


def _measuring(stages: Sequence[str], place: int) -> Phase:
    """`measuring FP16 (2 of 6)`."""
    detail = f"measuring {STAGES[stages[place]][0]} ({place + 1} of {len(stages)})"
    return Phase("measure", detail, place / len(stages))


def predict_step(request: MemoryRequest) -> StepReport:
    """What a training step of the request will take. Raises DemoErrors for a model that is not there."""
    from ..engine.models import sources
    from ..engine.models.blueprint import read_blueprint

    blueprint = read_blueprint(sources.resolve(request.model, request.revision, config_only=True), request.labels)
    return _report_step(request, blueprint, lambda event: None, lambda: False, measured=False)


def _find_model(request: MemoryRequest, measured: bool, emit: Emit, should_stop: ShouldStop) -> ModelSource:
    """The model's files; its weights, too, where they are to be measured."""
    from ..engine.models import sources

    emit(Phase("resolve", f"finding {request.model}"))
    source = sources.resolve(
        request.model,
        request.revision,
        config_only=request.random_weights or not measured,
        should_stop=should_stop,
        on_progress=lambda text, fraction: emit(Phase("download", text, fraction)),
    )
    if source.note:
        emit(Notice(source.note))
    return source


def _report_step(
    request: MemoryRequest, blueprint: Blueprint, emit: Emit, should_stop: ShouldStop, *, measured: bool
) -> StepReport:
    """A training step predicted, and measured in a process of its own; where one of them cannot be done, the report
    says why.
    """
    from ..engine.memory import measured_step, training_step
    from ..engine.models.device import choose_device, free_memory_bytes

    device = choose_device()
    shape: dict[str, Any] = {
        "batch_size": request.batch_size,
        "length": request.length,
        "rank": request.rank,
        "targets": request.targets,
        "gradient_checkpointing": request.gradient_checkpointing,
        "optimizer": request.optimizer,
    }
    predicted = None
    try:
        predicted = training_step.predict_budget(
            blueprint, kind=device.kind, compute_dtype=device.compute_dtype, **shape
        )
        if not measured:
            return StepReport(predicted=predicted)
        if request.random_weights:
            raise DeviceError("A step is measured with real weights only; it is predicted here.")
        if (free := free_memory_bytes(device.kind)) < predicted.total_bytes * STEP_MARGIN:
            raise DeviceError(
                f"A step takes about {size(predicted.total_bytes)}, and {size(free)} are free; take a smaller batch, or"
                " fewer tokens per review."
            )
        tokens = f"{request.batch_size} x {request.length} tokens"
        emit(Phase("measure", f"measuring a training step of {tokens} in a process of its own"))
        limit = free if device.kind == "cpu" else None
        call = partial(fresh_process.call, should_stop=should_stop, memory_bytes=limit)
        within, reading = measured_step.measure_budget(
            request.model, request.labels, revision=request.revision, call=call, **shape
        )
        receipt = training_step.receipt(within, reading.standing_bytes, reading.peak_bytes, None)
        emit(MemoryReading("training_peak", receipt.predicted_peak_bytes, reading.peak_bytes))
        return StepReport(predicted=within, measured=reading, error=receipt.error)
    except DownloadStopped:
        raise
    except DemoError as problem:
        return StepReport(predicted=predicted, problem=str(problem))


def _find_fits(blueprint: Blueprint, length: int, checkpointing: bool) -> list[Fit]:
    from ..engine.memory import fitting

    return fitting.fit_hardware(fitting.hardware_budgets(blueprint, length, gradient_checkpointing=checkpointing))


class MemoryService:
    """Memory of models, predicted at once and measured by a job. All functions raise DemoErrors."""

    def __init__(self, host: Host, machine: MachineService):
        self._host, self._machine = host, machine
        self._fits = cached(LRUCache(FITS_KEPT), condition=threading.Condition())(_find_fits)

    def predict(self, request: MemoryRequest) -> MemoryReport:
        """The predicted ledger without a step; no weight is read or fetched."""
        self._check(request, loaded=False)
        stages_only = request.model_copy(update={"batch_size": 0})
        return report_memory(stages_only, lambda event: None, never, ("predicted",))

    def predict_step(self, request: MemoryRequest) -> StepReport:
        """What a training step takes."""
        self._check(request, loaded=False)
        return predict_step(request)

    def find_fits(self, request: MemoryRequest) -> list[Fit]:
        """On which GPUs and Spaces a training fits, and at which batch; computed once for a shape."""
        self._check(request, loaded=False)
        from ..engine.models import sources
        from ..engine.models.blueprint import read_blueprint

        blueprint = read_blueprint(sources.resolve(request.model, request.revision, config_only=True), request.labels)
        return self._fits(blueprint, request.length, request.gradient_checkpointing)

    def start(self, request: MemoryRequest, predicted: MemoryReport, visitor: str = "") -> Started:
        """A job that measures what was predicted; at once where it is small, else when the device is free."""
        self._check(request)
        if self._host.public:  # random weights may be as many as their configuration likes
            limits.check_size(request.model, predicted.parameters, 0)
        beside = self._machine.has_room_beside(max(stage.total_bytes for stage in predicted.stages))
        return self._host.submit("memory", request.to_dict(), visitor, beside=beside)

    def measure(self, request: MemoryRequest, emit: Emit, ways: Collection[str]) -> MemoryReport:
        """The report of what `ways` names, made in this very process."""
        self._check(request, loaded="measured" in ways)
        return report_memory(request, emit, never, ways)

    def _check(self, request: MemoryRequest, *, loaded: bool = True) -> None:
        self._host.check(request, loaded=loaded)
        check_model(self._host, request.model, request.revision)
        engine.load()
