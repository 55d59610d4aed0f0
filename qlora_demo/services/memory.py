"""What a model weighs at each stage of QLoRA and in a training step: one report for the job, the page and the command
line.

The engine counts; this puts its answers together. Knows nothing of jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ..core.cancellation import DownloadStopped
from ..core.errors import DemoError, DeviceError
from ..core.format import size
from ..core.records import Event, MemoryReading, MemoryStage, Notice, Phase, ProcessReading
from ..core.requests import MemoryRequest
from ..engine import importing

if TYPE_CHECKING:
    from ..engine.models.sources import ModelSource

# a step is not tried without a quarter more free memory than its tensors take: libraries, gaps, the page itself
ROOM = 1.25


def weigh(
    request: MemoryRequest,
    emit: Callable[[Event], None],
    should_stop: Callable[[], bool],
    ways: Collection[str] = ("predicted", "measured"),
) -> dict[str, Any]:
    """One model at each stage of QLoRA, predicted and measured as `ways` says: {model, parameters, stages, process,
    step, architecture, estimates}.

    process: what the process took for each measured stage. step: a training step, None where none was asked for; else
    {predicted, measured, error}, each None where it is not there, and `problem`, a sentence that says why. Emits
    phases, and a reading for each measured stage. Raises DemoErrors; DownloadStopped when a stop was asked for."""
    with importing():
        from ..engine.memory import calculators, ledger
        from ..engine.models import layers, sources
    emit(Phase("resolve", f"looking for {request.model}"))
    shape_only = request.random_weights or "measured" not in ways
    source = sources.resolve(
        request.model,
        request.revision,
        config_only=shape_only,
        should_stop=should_stop,
        on_progress=lambda text, fraction: emit(Phase("download", text, fraction)),
    )
    if source.note:
        emit(Notice(source.note))
    emit(Phase("predict", "from the configuration"))
    shape = (request.labels, request.stages, request.rank, request.targets)
    predicted = {stage.name: stage for stage in ledger.predict(source, *shape)}
    parameters = ledger.count_parameters(source, request.labels)
    configuration = layers.load_config(source, request.labels).to_dict()
    architecture = ledger.architecture(source, request.labels)
    measured: list[MemoryStage] = []
    process: list[ProcessReading] = []

    def on_stage(stage: MemoryStage) -> None:
        measured.append(stage)
        emit(MemoryReading(stage.name, predicted[stage.name].total_bytes, stage.total_bytes))
        emit(Phase("measure", f"{stage.name} is weighed", len(measured) / len(request.stages)))

    if "measured" in ways:
        emit(Phase("measure", f"loading {request.model} at {request.stages[0]}", 0.0))
        ledger.measure(
            source,
            *shape,
            on_stage,
            random_weights=request.random_weights,
            should_stop=should_stop,
            on_process=process.append,
        )
    step = weigh_step(request, source, emit, should_stop, measured="measured" in ways) if request.batch_size else None
    stages = [*(predicted.values() if "predicted" in ways else ()), *measured]
    return {
        "model": request.model,
        "parameters": parameters,
        "stages": [stage.to_dict() for stage in stages],
        "process": [reading.to_dict() for reading in process],
        "step": step,
        "architecture": architecture,
        "estimates": [
            estimate.to_dict()
            for estimate in calculators.estimates(ledger.count_base_parameters(source), configuration)
        ],
    }


def predict_step(request: MemoryRequest) -> dict[str, Any]:
    """What a training step of the request will take, as `weigh` reports it. Raises DemoErrors for a model that is not
    found.
    """
    from ..engine.models import sources

    source = sources.resolve(request.model, request.revision, config_only=True)
    return weigh_step(request, source, lambda event: None, lambda: False, measured=False)


def weigh_step(
    request: MemoryRequest,
    source: ModelSource,
    emit: Callable[[Event], None],
    should_stop: Callable[[], bool],
    *,
    measured: bool,
) -> dict[str, Any]:
    """A training step predicted, and measured in a process of its own; what cannot be is said, and loses nothing
    else.
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
    found: dict[str, Any] = {"predicted": None, "measured": None, "error": None, "problem": ""}
    try:
        predicted = training_step.predict_budget(
            source, request.labels, kind=device.kind, compute_dtype=device.compute_dtype, **shape
        )
        found["predicted"] = predicted.to_dict()
        if not measured:
            return found
        if request.random_weights:
            raise DeviceError("A step is measured with real weights only; it is predicted here.")
        if (free := free_memory_bytes(device.kind)) < predicted.total_bytes * ROOM:
            raise DeviceError(
                f"A step takes about {size(predicted.total_bytes)}, and {size(free)} are free; take fewer reviews, or"
                " shorter ones."
            )
        emit(
            Phase(
                "measure", f"a training step of {request.batch_size} x {request.length} tokens, in a process of its own"
            )
        )
        within, reading = measured_step.measure_budget(
            request.model, request.labels, revision=request.revision, should_stop=should_stop, **shape
        )
        receipt = training_step.receipt(within, reading.standing_bytes, reading.peak_bytes, None)
        emit(MemoryReading("training_peak", receipt["predicted_peak_bytes"], reading.peak_bytes))
        found |= {"predicted": receipt["budget"], "measured": reading.to_dict(), "error": receipt["error"]}
    except DownloadStopped:
        raise
    except DemoError as problem:
        found["problem"] = str(problem)
    return found
