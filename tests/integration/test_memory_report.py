"""One report of what a model weighs: a step predicted and measured; what cannot be weighed is refused in one
sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.core.errors import DemoError, DeviceError
from qlora_demo.core.memory_report import MemoryReport
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models import device
from qlora_demo.services.memory import report_memory

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def report(request: MemoryRequest, way: str) -> MemoryReport:
    return report_memory(request, lambda event: None, lambda: False, ways=("predicted", way))


@pytest.mark.parametrize("way", ["predicted", "measured"])
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "wonderbird", **SMALL}, r"The architecture 'wonderbird' of .* is not known to transformers"),
        ({"model_type": "bert", "vocab_size": 0, **SMALL}, r"has no vocabulary \(vocab_size is 0\)"),
        ({"model_type": "bert", "vocab_size": None, **SMALL}, "is not understood: .*'vocab_size' expected int"),
        ({"model_type": "vit", **SMALL}, "A vit model cannot be a text classifier here"),
        (
            {"model_type": "bert", "vocab_size": 9, **SMALL, "num_hidden_layers": 0},
            "has no linear layers that can be quantized",
        ),
        ({"model_type": "bert", "vocab_size": 9, **SMALL, "num_attention_heads": 5}, "does not build a classifier"),
    ],
)
def test_a_configuration_that_is_no_classifiers(
    tmp_path: Path, config: dict[str, Any], sentence: str, way: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DemoError, match=sentence) as refused:
        report(MemoryRequest(model=str(tmp_path), random_weights=True), way)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)


def test_no_memory_left_for_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "free_memory_bytes", lambda kind: 1024**2)
    with pytest.raises(DeviceError, match=r"sample at fp32 takes 0\.1 GiB, and 0\.0 GiB are free"):
        report(MemoryRequest(), "measured")


def test_no_memory_left_for_a_step_loses_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "free_memory_bytes", lambda kind: 64 * 1024**2)
    memory = report(MemoryRequest(stages=("nf4",), batch_size=32), "measured")
    assert [stage.source for stage in memory.stages] == ["predicted", "measured"]
    assert memory.step and memory.step.predicted and not memory.step.measured
    assert "are free; take a smaller batch, or fewer tokens per review" in memory.step.problem


def test_a_step_that_dies_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    memory = report(MemoryRequest(stages=("nf4",), batch_size=2, length=8), "measured")
    assert memory.step and memory.step.predicted
    assert "The measurement of a training step ended early" in memory.step.problem


def test_a_step_is_predicted_and_measured() -> None:
    memory = report(MemoryRequest(stages=("nf4-dq",), batch_size=4, length=32), "measured")
    step, process = memory.step, memory.process
    assert step and step.predicted and step.measured and step.problem == ""
    assert step.measured.peak_bytes > step.measured.standing_bytes > 0
    predicted = step.measured.standing_bytes + step.predicted.step_bytes
    assert step.error == pytest.approx(predicted / step.measured.peak_bytes - 1, abs=1e-3) and abs(step.error) < 0.1
    assert [item.stage for item in process] == ["nf4-dq"]
    assert process[0].peak_bytes >= process[0].held_bytes - 1024**2 > 0
    assert MemoryReport.parse(memory.to_json()) == memory


def test_the_report_of_an_earlier_version_still_loads() -> None:
    """As written before reports had a version: each side of the architecture on its own, rows without role or layer."""
    row = {"name": "score", "group": "score", "shape": [5, 8], "dtype_before": "float16", "dtype_after": "float16"}
    row |= {"kind_before": "Linear", "kind_after": "Linear", "bytes_before": 80, "bytes_after": 80, "changed": False}
    stage = {"name": "fp16", "source": "predicted", "weights_bytes": 80, "constants_bytes": 0, "buffers_bytes": 0}
    stage |= {"adapter_bytes": 0, "quantized_layers": 0, "kept_layers": 1, "total_bytes": 80}
    old = {
        "model": "m",
        "parameters": 40,
        "stages": [stage],
        "architecture": {"before": [], "after": [], "rows": [row]},
    }
    memory = MemoryReport.parse(json.dumps(old))
    assert memory.stages[0].total_bytes == 80 and memory.architecture.rows[0].role == "other"
    assert memory.to_dict()["stages"] == [stage] and memory.step is None
    with pytest.raises(DemoError, match="The report is damaged at parameters"):
        MemoryReport.parse('{"model": "m", "parameters": "many", "stages": []}')
