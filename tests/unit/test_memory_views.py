"""The step's waterfall and the process table: parts sum to what is shown, and text from outside stays text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qlora_demo.core.memory_report import (
    Architecture,
    Budget,
    BudgetReading,
    MemoryReport,
    MemoryStage,
    ModuleMemory,
    ProcessReading,
    StepReport,
)
from qlora_demo.jobs.malloc import ARROW_POOL, COMPACT, TUNABLES, with_malloc_settings
from qlora_demo.ui.memory.memory_views import view_process, view_stages, view_step, view_why

MiB = 1024**2
PARTS = (50, 1, 1, 3, 3, 6, 600, 1, 40, 10, 100)  # MiB, in the order of Budget's fields
BUDGET = Budget(32, 128, "nf4-dq", "cpu", "adamw_torch_fused", False, *(MiB * part for part in PARTS))
READING = BudgetReading(500 * MiB, 700 * MiB, 600 * MiB, 620 * MiB, 1400 * MiB, step_seconds=0.5)


def step(**changed: Any) -> StepReport:
    return StepReport(predicted=BUDGET).model_copy(update=changed)


def test_the_parts_and_their_sum_are_shown() -> None:
    html = view_step(step())
    assert html.count('class="before"') == 7 and f"{BUDGET.total_bytes / MiB:.2f} MiB" in html
    budget = replace(BUDGET, workspace_bytes=10 * MiB, overlap_bytes=40 * MiB)
    assert "− 30.00 MiB" in view_step(step(predicted=budget)), "what is freed before the peak"


def test_a_measured_step_has_an_error() -> None:
    html = view_step(step(measured=READING, error=-0.0275))
    assert "-2.8 %" in html and "1.37 GiB" in html and "500 ms" in html
    assert "12 s" in view_step(step(measured=replace(READING, step_seconds=12.3), error=0.0))
    assert "only a measurement shows how much" in view_step(step())


def test_problems_are_shown_and_escaped() -> None:
    assert "&lt;b&gt;" in view_step(StepReport(problem="<b>"))
    assert "&lt;b&gt;" in view_step(step(problem="<b>"))
    assert view_step(None) == ""


def stage(name: str, source: str, total: int, adapter: int = 0) -> MemoryStage:
    return MemoryStage(name, source, total - adapter, 0, 0, adapter, 36, 3)  # type: ignore[arg-type]


def test_a_stage_is_drawn_by_its_measurement_and_compared_with_the_prediction() -> None:
    html = view_stages([stage("fp16", "predicted", 4 * MiB), stage("lora", "predicted", 2 * MiB, MiB)])
    assert html.count("<small>predicted</small>") == 2 and "adapter and trained head: 1.00 MiB" in html
    both = [stage("fp16", "predicted", 4 * MiB), stage("fp16", "measured", 4 * MiB)]
    assert "measured, 4,194,304 B: as predicted, to the byte" in view_stages(both)
    assert "-8 B from the prediction" in view_stages([both[0], stage("fp16", "measured", 4 * MiB - 8)])
    assert "measured, 4,194,304 B</small>" in view_stages(both[1:]) and view_stages([]) == ""


def report(stages: list[MemoryStage], process: Sequence[ProcessReading] = (), rows: Any = ()) -> MemoryReport:
    architecture = Architecture(rows=list(rows))
    return MemoryReport(model="x", parameters=1, stages=stages, process=list(process), architecture=architecture)


def test_what_surprises_is_explained_with_the_reports_numbers() -> None:
    rows = [
        ModuleMemory("a", "a", [2], "float16", "nf4", "Linear", "Linear4bit", 8 * MiB, 2 * MiB, True),
        ModuleMemory("b", "b", [2], "float16", "float16", "Embedding", "Embedding", 4 * MiB, 4 * MiB, False),
    ]
    sizes = {"fp16": 12, "nf4": 7, "nf4-dq": 6, "prepared": 10, "lora": 11}
    html = view_why(report([stage(name, "predicted", count * MiB) for name, count in sizes.items()], rows=rows))
    assert "by a factor of 2.00, its quantized matrices by 4.00" in html and "4.00 MiB of its 12.00 MiB" in html
    assert "Preparing for training adds 4.00 MiB" in html and html.count("<li>") == 4
    assert view_why(report([stage("int8", "predicted", MiB)])).count("<li>") == 0


def loaded(peak: int, own: int) -> MemoryReport:
    readings = [
        ProcessReading("fp32", 400 * MiB, 1500 * MiB, 1400 * MiB, 300 * MiB, 1300 * MiB),
        ProcessReading("nf4-dq", 400 * MiB, peak, 600 * MiB, 300 * MiB, own),
    ]
    return report([stage("fp32", "measured", 1000 * MiB), stage("nf4-dq", "measured", 160 * MiB)], readings)


def test_whether_the_whole_model_was_ever_held() -> None:
    assert "at most 200.00 MiB, 20.0 % of the FP32 model" in view_process(loaded(1600 * MiB, 500 * MiB))
    assert "more than the FP32 model" in view_process(loaded(1600 * MiB, 1400 * MiB))
    assert "Not measured yet" in view_process(report([]))


def test_a_process_that_trains_has_malloc_settings_unless_told_otherwise() -> None:
    assert with_malloc_settings({"A": "1"}) == {"A": "1", TUNABLES: COMPACT, **ARROW_POOL}
    assert with_malloc_settings({TUNABLES: "glibc.malloc.tcache_count=7"})[TUNABLES] == "glibc.malloc.tcache_count=7"
