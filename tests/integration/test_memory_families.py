"""Predicted equals measured, to the byte, at every stage: small models of many families, loaded for real; and GPT-2's
whole shape.

The prediction reads a configuration and a header; the measurement loads, transforms and reads off the tensors that are
there."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_demo.core.memory_report import MemoryStage
from qlora_demo.core.names import STAGES
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models import sources
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.device import choose_device
from tests.commands import command as run_command
from tests.conftest import NOBODY
from tests.families import family_case, make_family

# Matrices to quantize and linear layers kept: counted by hand from two layers of each architecture. Kept are the pooler
# and the classifier, or one head; of T5 each block's wo, which it holds in FP32, and the head's two.
LAYERS = {
    **dict.fromkeys(("bert", "distilbert", "roberta", "deberta-v2"), (2 * 6, 2)),
    **dict.fromkeys(("llama", "qwen2", "qwen3", "gemma", "mistral"), (2 * 7, 1)),
    **{"gpt2": (2 * 4, 1), "modernbert": (2 * 4, 2), "opt": (2 * 6, 1), "t5": (2 * 5 + 2 * 9, 4 + 2)},
}
CASES = [
    *(family_case(name, False, *layers) for name, layers in LAYERS.items()),
    *(family_case(name, True, *LAYERS[name]) for name in ("gpt2", "bert", "llama", "t5", "gemma")),
]


@pytest.fixture(scope="module", autouse=True)
def _quick_and_on_the_cpu() -> Iterator[None]:
    """One thread, which small models like best; and a collector that does not walk through all libraries before each
    stage."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "choose_device", lambda: choose_device("cpu"))
        yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def facts(stage: MemoryStage) -> dict[str, Any]:
    """All of a stage but where it came from."""
    return {name: value for name, value in asdict(stage).items() if name != "source"}


@pytest.mark.parametrize(("family", "odd", "quantized", "kept"), CASES)
def test_predicted_equals_measured_at_every_stage(
    family: str, odd: bool, quantized: int, kept: int, tmp_path: Path
) -> None:
    blueprint = read_blueprint(sources.resolve(str(make_family(family, tmp_path / "base", odd=odd))), 5)
    heard: list[MemoryStage] = []
    predicted = ledger.predict(blueprint, rank=3)
    measured = ledger.measure(blueprint, rank=3, on_stage=lambda stage, process: heard.append(stage))
    assert [stage.name for stage in measured] == list(STAGES) and measured == heard
    assert {stage.source for stage in predicted} == {"predicted"}
    assert {stage.source for stage in measured} == {"measured"}
    assert [facts(stage) for stage in measured] == [facts(stage) for stage in predicted]

    found = {stage.name: stage for stage in measured}
    dense = [(found[name].quantized_layers, found[name].kept_layers) for name in ("fp32", "fp16")]
    assert dense == [(0, quantized + kept)] * 2
    assert {(stage.quantized_layers, stage.kept_layers) for stage in measured[2:]} == {(quantized, kept)}
    # Equal zeros would be equal too.
    assert found["fp32"].total_bytes > found["fp16"].total_bytes > found["int8"].total_bytes
    assert found["int8"].total_bytes > found["nf4"].weights_bytes > 0
    assert found["prepared"].weights_bytes > found["nf4-dq"].weights_bytes == found["nf4"].weights_bytes
    assert found["int8"].constants_bytes and found["nf4"].constants_bytes and found["lora"].adapter_bytes
    assert found["nf4-dq"].constants_bytes >= quantized * (64 + 1024 + 4)


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_gpt2_by_command_with_random_weights_equals_the_recipe(tmp_path: Path) -> None:
    """The whole shape of openai-community/gpt2, five labels, in a process of its own; nothing may be asked of the
    Hub."""
    command = ["memory", "openai-community/gpt2", "--labels", "5", "--random-weights", "--measure", "--json"]
    offline = {"QLORA_DEMO_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_ENDPOINT": NOBODY, "TMPDIR": str(tmp_path)}
    done = run_command(*command, env={**os.environ, **offline})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["model"], result["parameters"]) == ("openai-community/gpt2", 124_443_648)
    single, double = 5_308_416 + 48 * 64, 1_347_840 + 48 * (64 + 1024 + 4)
    expected = {
        "fp32": (497_774_592, 0, 0, 0),
        "fp16": (248_887_296, 0, 0, 0),
        "nf4": (121_485_312, single, 0, 48),
        "nf4-dq": (121_485_312, double, 0, 48),
        "prepared": (200_503_296, double, 0, 48),
        "lora": (200_503_296, double, 4 * 2_363_136, 48),
    }
    keys = ("weights_bytes", "constants_bytes", "adapter_bytes", "quantized_layers")
    found = {stage["name"]: tuple(stage[key] for key in keys) for stage in result["stages"]}
    assert found == expected
    for stage in result["stages"]:
        parts = sum(stage[f"{part}_bytes"] for part in ("weights", "constants", "buffers", "adapter"))
        assert (stage["source"], stage["total_bytes"]) == ("measured", parts)
        assert stage["kept_layers"] == 49 - stage["quantized_layers"]
    assert not list(tmp_path.glob("qlora-demo-random-*")), "the made-up weights are removed"
