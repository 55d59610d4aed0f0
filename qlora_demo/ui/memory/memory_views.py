"""What a model takes at each stage, in a training step and in the measuring process, as HTML. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ...core.format import duration
from ...core.memory_report import Budget, MemoryReport, MemoryStage, ProcessReading, StepReport
from ...core.names import MEMORY_PARTS, OPTIMIZERS, STAGES
from ..templating import render

PARTS = {part: MEMORY_PARTS[part] for part in ("weights", "constants", "buffers", "adapter")}
NOT_MEASURED = (
    '<p class="quiet">Not measured yet: press “Measure memory”. What a process takes cannot be predicted from a'
    " configuration.</p>"
)


def view_stages(stages: Sequence[MemoryStage]) -> str:
    """Bars of all stages, predicted and measured; total, parts and agreement as text."""
    if not stages:
        return ""
    by_name: dict[str, dict[str, MemoryStage]] = {}
    for stage in stages:
        by_name.setdefault(stage.name, {})[stage.source] = stage
    widest = max(stage.total_bytes for stage in stages)
    return render("memory/stages.html.jinja", stages=by_name, widest=widest, names=STAGES, parts=PARTS)


def view_why(report: MemoryReport) -> str:
    """Sentences on what surprises in a report: the small reduction of a small model, double quantization, growth."""
    rows = report.architecture.rows
    quantized = [row for row in rows if row.changed]
    return render(
        "memory/why.html.jinja",
        by_name={stage.name: stage for stage in report.stages},
        dense=sum(row.bytes_before for row in rows if not row.changed),
        quantized_before=sum(row.bytes_before for row in quantized),
        quantized_after=sum(row.bytes_after for row in quantized),
    )


def view_step(step: StepReport | None) -> str:
    """A step as a waterfall, part by part up to its peak, and what was measured."""
    if step is None:
        return ""
    if step.predicted is None:
        return render("memory/sentence.html.jinja", sentence=step.problem, problem=True)
    parts = _step_parts(step.predicted)
    ends = list(accumulate(parts.values()))
    bars = [(name, end - count, count) for (name, count), end in zip(parts.items(), ends, strict=True)]
    seconds = step.measured.step_seconds if step.measured else None
    time = "–" if seconds is None else f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return render(
        "memory/step.html.jinja",
        step=step,
        optimizers=OPTIMIZERS,
        bars=bars,
        widest=max(ends),
        time=duration(seconds) if seconds and seconds >= 10 else time,
    )


def _step_parts(budget: Budget) -> dict[str, int]:
    """Bytes by part, those of none left out: they sum to the budget's total."""
    parts = {
        "model": budget.model_bytes,
        "gradients": budget.gradients_bytes,
        "optimizer": budget.optimizer_bytes,
        "activations": budget.activations_bytes + budget.logits_bytes,
        "workspace": budget.workspace_bytes - budget.overlap_bytes,
        "allocator": budget.allocator_bytes,
    }
    return {name: count for name, count in parts.items() if count}


def view_process(report: MemoryReport) -> str:
    """What the process took for each stage, and whether loading in NF4 ever held the whole FP32 model."""
    if not report.process:
        return NOT_MEASURED
    ledger = {stage.name: stage.total_bytes for stage in report.stages}
    nf4 = next((reading for reading in report.process if reading.stage in ("nf4-dq", "nf4")), None)
    on_gpu = report.process[0].reserved_bytes is not None
    own = None
    if nf4 and "fp32" in ledger:
        own = nf4.peak_bytes - nf4.before_bytes if on_gpu else _own_peak(nf4)
    return render(
        "memory/process.html.jinja",
        rows=[
            (
                reading.stage,
                ledger[reading.stage],
                max(0, reading.held_bytes - reading.before_bytes),
                max(0, reading.peak_bytes - reading.before_bytes),
                _own_peak(reading),
            )
            for reading in report.process
        ],
        own=own,
        whole=ledger.get("fp32"),
        before=report.process[0].before_bytes,
        on_gpu=on_gpu,
        names=STAGES,
    )


def _own_peak(reading: ProcessReading) -> int | None:
    """The peak of what is the process's own: reserved on a GPU; else without mapped files and what was there before."""
    if reading.reserved_bytes is not None:
        return reading.reserved_bytes
    if reading.peak_anonymous_bytes is None or reading.before_anonymous_bytes is None:
        return None
    return max(0, reading.peak_anonymous_bytes - reading.before_anonymous_bytes)
