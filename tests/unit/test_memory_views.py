"""The step's waterfall and the process table: parts sum to what is shown, and text from outside stays text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qlora_demo.core.memory_report import Budget, BudgetReading, ProcessReading
from qlora_demo.jobs.malloc import ARROW_POOL, COMPACT, TUNABLES, with_malloc_settings
from qlora_demo.ui.memory.memory_views import view_process, view_step

MiB = 1024**2
BUDGET = Budget(
    32,
    128,
    "nf4-dq",
    "cpu",
    "adamw_torch_fused",
    False,
    50 * MiB,
    1 * MiB,
    1 * MiB,
    3 * MiB,
    3 * MiB,
    6 * MiB,
    600 * MiB,
    1 * MiB,
    40 * MiB,
    10 * MiB,
    100 * MiB,
)
READING = BudgetReading(500 * MiB, 700 * MiB, 600 * MiB, 620 * MiB, 1400 * MiB, step_seconds=0.5)


def step(**changed: Any) -> dict[str, Any]:
    return {"predicted": BUDGET.to_dict(), "measured": None, "error": None, "problem": "", **changed}


def test_the_bars_are_a_waterfall() -> None:
    bars = re.findall(
        r'class="before" style="width:([\d.]+)%"></i><i class="part-\w+" style="width:([\d.]+)%', view_step(step())
    )
    ends = [float(start) + float(share) for start, share in bars]
    assert len(bars) == 7
    assert [float(start) for start, _ in bars[1:-1]] == pytest.approx(ends[:-2], abs=0.01)
    assert ends[-1] == ends[-2] == pytest.approx(100)
    assert f"{BUDGET.total_bytes / MiB:.2f} MiB" in view_step(step())


def test_what_has_gone_at_the_peak_goes_back() -> None:
    budget = {**BUDGET.to_dict(), "workspace_bytes": 10 * MiB, "overlap_bytes": 40 * MiB}
    assert "− 30.00 MiB" in view_step(step(predicted=budget))


def test_a_measured_step_says_the_error() -> None:
    shown = view_step(step(measured=READING.to_dict(), error=-0.0275))
    assert "-2.8 %" in shown and "1.37 GiB" in shown and "500 ms" in shown
    assert "the measurement says how much" in view_step(step())


def test_problems_are_told_and_escaped() -> None:
    assert "&lt;b&gt;" in view_step({"predicted": None, "measured": None, "error": None, "problem": "<b>"})
    assert "&lt;b&gt;" in view_step(step(problem="<b>"))
    assert view_step(None) == ""


def report(**nf4: int) -> dict[str, Any]:
    process = [
        ProcessReading("fp32", 400 * MiB, 1500 * MiB, 1400 * MiB, 300 * MiB, 1300 * MiB).to_dict(),
        ProcessReading("nf4-dq", 400 * MiB, nf4["peak"], 600 * MiB, 300 * MiB, nf4["own"]).to_dict(),
    ]
    stages = [{"name": "fp32", "total_bytes": 1000 * MiB}, {"name": "nf4-dq", "total_bytes": 160 * MiB}]
    return {"process": process, "stages": stages}


def test_whether_the_whole_model_was_ever_held() -> None:
    assert "at most 200.00 MiB, 20.0 % of the FP32 model" in view_process(report(peak=1600 * MiB, own=500 * MiB))
    assert "more than the FP32 model" in view_process(report(peak=1600 * MiB, own=1400 * MiB))
    assert "Not measured yet" in view_process({"process": [], "stages": []})


def test_a_process_that_trains_has_malloc_settings_unless_told_otherwise() -> None:
    assert with_malloc_settings({"A": "1"}) == {"A": "1", TUNABLES: COMPACT, **ARROW_POOL}
    assert with_malloc_settings({TUNABLES: "glibc.malloc.tcache_count=7"})[TUNABLES] == "glibc.malloc.tcache_count=7"
