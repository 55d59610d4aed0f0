"""How much memory a model takes at each stage of QLoRA and in a training step: one report for the job, the page and the
command line.

The engine counts; this puts its answers together, and is the one place that writes and reads the report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import engine
from ..core.cancellation import DownloadStopped, never
from ..core.errors import DemoError, DeviceError
from ..core.format import size
from ..core.memory_report import Architecture, MemoryReport, MemoryStage, ProcessReading, StepReport
from ..core.names import STAGES
from ..core.records import Event, Fit, MemoryReading, Notice, Phase
from ..core.requests import MemoryRequest
from ..core.safety import STEP_MARGIN
from ..engine import building, importing
from ..host import limits
from ..host.host import Host, Started
from ..jobs import fresh_process
from .downloads import check_model
from .machine import MachineService

if TYPE_CHECKING:
    from ..engine.models.sources import ModelSource

Emit = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def report_memory(
    request: MemoryRequest, emit: Emit, should_stop: ShouldStop, ways: Collection[str] = ("predicted", "measured")
) -> MemoryReport:
    """One model at each stage of QLoRA, predicted and measured as `ways` says, and the training step asked for.

    Emits phases, and a reading for each measured stage. Raises DemoErrors; DownloadStopped when a stop was asked for.
    """
    with importing():
        from ..engine.memory import calculators, ledger
        from ..engine.models.layers import load_config
    source = _find_model(request, "measured" in ways, emit, should_stop)
    emit(Phase("predict", "predicting from the configuration"))
    shape = (request.labels, request.stages, request.rank, request.targets)
    predicted = ledger.predict(source, *shape)
    measured: list[MemoryStage] = []
    process: list[ProcessReading] = []
    if "measured" in ways:
        expected = {stage.name: stage.total_bytes for stage in predicted}
        emit(_measuring(request.stages, 0))

        def on_stage(stage: MemoryStage) -> None:
            measured.append(stage)
            emit(MemoryReading(stage.name, expected[stage.name], stage.total_bytes))
            if len(measured) < len(request.stages):
                emit(_measuring(request.stages, len(measured)))

        ledger.measure(
            source,
            *shape,
            on_stage,
            random_weights=request.random_weights,
            should_stop=should_stop,
            on_process=process.append,
        )
    step = _report_step(request, source, emit, should_stop, measured="measured" in ways) if request.batch_size else None
    return MemoryReport(
        model=request.model,
        parameters=ledger.count_parameters(source, request.labels),
        stages=(*(predicted if "predicted" in ways else ()), *measured),
        process=tuple(process),
        step=step,
        architecture=Architecture(rows=tuple(ledger.architecture(source, request.labels))),
        estimates=tuple(
            calculators.estimates(ledger.count_base_parameters(source), load_config(source, request.labels).to_dict())
        ),
    )


def _measuring(stages: Sequence[str], place: int) -> Phase:
    """`measuring FP16 (2 of 6)`."""
    detail = f"measuring {STAGES[stages[place]][0]} ({place + 1} of {len(stages)})"
    return Phase("measure", detail, place / len(stages))


def predict_step(request: MemoryRequest) -> StepReport:
    """What a training step of the request will take. Raises DemoErrors for a model that is not there."""
    from ..engine.models import sources

    source = sources.resolve(request.model, request.revision, config_only=True)
    return _report_step(request, source, lambda event: None, lambda: False, measured=False)


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
    request: MemoryRequest, source: ModelSource, emit: Emit, should_stop: ShouldStop, *, measured: bool
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
            source, request.labels, kind=device.kind, compute_dtype=device.compute_dtype, **shape
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


class MemoryService:
    """Memory of models, predicted at once and measured by a job. All functions raise DemoErrors."""

    def __init__(self, host: Host, machine: MachineService):
        self._host, self._machine = host, machine
        self._fits: dict[tuple[object, ...], list[Fit]] = {}

    def predict(self, request: MemoryRequest) -> MemoryReport:
        """The predicted ledger without a step; no weight is read or fetched."""
        self._check(request, loaded=False)
        with building:
            return report_memory(
                request.model_copy(update={"batch_size": 0}), lambda event: None, never, ("predicted",)
            )

    def predict_step(self, request: MemoryRequest) -> StepReport:
        """What a training step takes."""
        self._check(request, loaded=False)
        with building:
            return predict_step(request)

    def find_fits(self, request: MemoryRequest) -> list[Fit]:
        """On which GPUs and Spaces a training fits, and at which batch; computed once for a shape."""
        self._check(request, loaded=False)
        from ..engine.memory import fitting
        from ..engine.models import sources

        source = sources.resolve(request.model, request.revision, config_only=True)
        shape = (source.name, request.revision, request.labels, request.length, request.gradient_checkpointing)
        with building:
            if shape not in self._fits:
                budgets = fitting.hardware_budgets(
                    source, request.labels, request.length, gradient_checkpointing=request.gradient_checkpointing
                )
                self._fits[shape] = fitting.fit_hardware(budgets)
            return self._fits[shape]

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
