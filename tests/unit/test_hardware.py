"""Which batch fits on which hardware: the tables, GPU and CPU, and short models that stand for deep ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from transformers import AutoConfig, GPT2Config, ModernBertConfig, PretrainedConfig

from qlora_demo.core.memory_report import Budget
from qlora_demo.core.safety import CONTEXT_BYTES, PROCESS_BYTES
from qlora_demo.engine.memory import fitting
from qlora_demo.engine.memory.fitting import (
    POINTS,
    WAYS,
    fit_hardware,
    hardware_budgets,
    needed_bytes,
    needed_on,
    tensors_bytes,
)
from qlora_demo.engine.memory.hardware import GPUS, OTHERS, TIERS
from qlora_demo.engine.memory.training_step import predict_budget
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.shapes import shape_of
from tests.families import tiny_llama

# Just deep enough to be predicted from a few layers. Qwen3 of 10 and BERT of 9 layers were equal to the byte too, at
# more seconds.
DEEP: dict[str, PretrainedConfig] = {
    "llama": tiny_llama(num_hidden_layers=9, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=3000, n_positions=64, n_embd=64, n_layer=9, n_head=4),
}


@cache
def budgets(name: str) -> dict[str, dict[str, tuple[Budget, ...]]]:
    return hardware_budgets(read_blueprint(DEEP[name], 5), 32)


@pytest.mark.parametrize("name", DEEP)
def test_a_short_model_stands_for_a_deep_one_to_the_byte(name: str) -> None:
    assert fitting._shorten(read_blueprint(DEEP[name], 5)), "else nothing is tested"
    for way, precision in WAYS.items():
        whole = (
            predict_budget(read_blueprint(DEEP[name], 5), batch_size=count, length=32, precision=precision, kind="cuda")
            for count in POINTS
        )
        assert budgets(name)["cuda"][way] == tuple(whole)


def test_on_a_cpu_only_the_heaps_share_comes_on_top() -> None:
    whole = predict_budget(read_blueprint(DEEP["gpt2"], 5), batch_size=2, length=32, kind="cpu")
    assert budgets("gpt2")["cpu"]["QLoRA"][1] == replace(whole, allocator_bytes=whole.step_bytes // 3)
    for way in ("16-bit LoRA", "full fine-tuning"):
        gpu, cpu = (budgets("gpt2")[device][way][1] for device in ("cuda", "cpu"))
        assert cpu == replace(gpu, device="cpu", allocator_bytes=gpu.step_bytes // 3)


def test_layers_that_differ_or_are_few_are_predicted_whole() -> None:
    sizes = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    mixed = ModernBertConfig(**sizes, num_hidden_layers=12, pad_token_id=0)
    few = AutoConfig.for_model(**{**(shape_of("gpt2") or {}), "n_layer": 6})
    for config in (mixed, few):
        assert fitting._shorten(read_blueprint(config, 5)) == {}


def test_a_peak_that_may_still_steepen_is_not_trusted() -> None:
    one = budgets("llama")["cuda"]["QLoRA"][0]
    grown = replace(one, activations_bytes=one.activations_bytes + 100, gradients_bytes=one.gradients_bytes + 300)
    assert fitting._steepest(one, replace(grown, overlap_bytes=one.overlap_bytes + 100))
    assert not fitting._steepest(one, replace(grown, overlap_bytes=one.overlap_bytes + 250))


def test_a_tier_has_the_batch_of_its_gpu_and_a_cpu_tier_its_own() -> None:
    found = {(fit.gpu, fit.way): fit for fit in fit_hardware(budgets("gpt2"))}
    assert len(found) == (len(TIERS) + len(OTHERS)) * len(WAYS)
    plain = {(fit.gpu, fit.way): fit for fit in fit_hardware({"cuda": budgets("gpt2")["cuda"]}, (), GPUS)}
    for way in WAYS:
        assert found["L4", way].batch_size == plain["L4", way].batch_size
        assert (
            found["T4 small", way].needed_bytes == found["T4 medium", way].needed_bytes == plain["T4", way].needed_bytes
        )
        basic, upgrade = found["CPU basic", way], found["CPU upgrade", way]
        assert basic.device == "cpu" and basic.memory_bytes == 16 * 10**9 and basic.hour_dollars == 0
        assert 0 < basic.batch_size <= upgrade.batch_size and basic.needed_bytes <= basic.memory_bytes
        assert needed_on("cpu", budgets("gpt2")["cpu"][way], 2 * basic.batch_size) > basic.memory_bytes


def test_reserves_are_those_that_are_stated() -> None:
    points = budgets("gpt2")["cuda"]["QLoRA"]
    tensors = tensors_bytes(points, 8)
    assert needed_bytes(points, 8) == CONTEXT_BYTES + tensors + tensors // 10
    on_cpu = budgets("gpt2")["cpu"]["QLoRA"]
    assert needed_on("cpu", on_cpu, 1) == PROCESS_BYTES + on_cpu[0].total_bytes
    assert 600 * 1024**2 < PROCESS_BYTES < 700 * 1024**2 and all(one.allocator_bytes > 0 for one in on_cpu)


def test_nothing_fits_where_nothing_can() -> None:
    huge: dict[str, Any] = {
        device: {"way": [replace(one, weights_bytes=10**13) for one in ways["QLoRA"]]}
        for device, ways in budgets("gpt2").items()
    }
    assert all(fit.batch_size == 0 and fit.needed_bytes > fit.memory_bytes for fit in fit_hardware(huge))
