"""The arithmetic of a training budget: lists of blocks, optimizer states, what fits on a GPU; invariants on a 1B
shape."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from qlora_demo.core.memory_report import Budget
from qlora_demo.engine.memory import training_step
from qlora_demo.engine.memory.fitting import fit_hardware, hardware_budgets, needed_bytes
from qlora_demo.engine.memory.hardware import GPUS
from qlora_demo.engine.memory.trace import LiveBytes, ShadowHeap, StepParts, Trace, step_parts
from qlora_demo.engine.memory.training_step import FULL, optimizer_bytes, predict_budget, receipt
from qlora_demo.engine.models.blueprint import Blueprint, read_blueprint
from tests.families import tiny_llama

SMALL = tiny_llama()
# A billion parameters in four wide layers: the weights take most, and few layers are soon predicted.
WIDE = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
ONE_B = tiny_llama(**WIDE, num_hidden_layers=4, num_key_value_heads=8)


def small() -> Blueprint:
    return read_blueprint(SMALL, 5)


@cache
def one_b(length: int = 128) -> dict[str, tuple[Budget, ...]]:
    return hardware_budgets(read_blueprint(ONE_B, 5), length)["cuda"]


def test_the_parts_of_a_list_sum_to_its_peak() -> None:
    # 100 kept, 30 and gone, 20 kept (the logits); then 40 for a moment, a gradient of 10, 100 goes, 50 for a moment.
    trace = Trace([100, 30, -2, 20, 40, -4, 10, -1, 50, -6, -3, -5], 4, 11, frozenset({3}), frozenset({5}))
    found = step_parts(trace)
    assert found == StepParts(10, 100, 20, 50, 20)
    assert found.peak_bytes == 160 == 100 + 20 + 40
    standing = step_parts(trace, standing_gradients=True)
    assert standing.peak_bytes == 170


def test_storages_are_written_down_once_and_when_they_go() -> None:
    known = torch.zeros(1000)
    live = LiveBytes([known])
    with live:
        first = known + 1
        view = first.view(10, 100)
        del first
        second = view * 2
        del view, second
    assert live.trace.events == [4000, 4000, *live.trace.events[2:]] and sorted(live.trace.events[2:]) == [-2, -1]


def test_a_sum_in_the_backward_pass_takes_over_the_addend_that_goes() -> None:
    live = LiveBytes([])
    with live:
        first, second = torch.zeros(1000), torch.zeros(1000)
        live.mark_forward(first)
        first = first + second  # as autograd adds up gradients: the old sum goes
        del first, second
    assert live.trace.events[:2] == [4000, 4000] and sorted(live.trace.events[2:]) == [-2, -1]


def test_the_shadow_heap_holds_at_least_what_is_alive() -> None:
    heap = ShadowHeap()
    if not heap.works:
        pytest.skip("no glibc that tells")
    for number in range(20):
        heap.take(number, 5_000_000)
    for number in range(0, 20, 2):
        heap.give(number)
    heap.close()
    assert heap.peak_bytes >= 100_000_000 * 0.99


@pytest.mark.parametrize(
    ("optimizer", "count", "expected"),
    [
        ("adamw_torch_fused", 1000, 8000),
        ("paged_adamw_32bit", 5000, 40000),
        ("adamw_8bit", 4095, 8 * 4095),
        ("adamw_8bit", 4096, 2 * 4096 + 8 * 16),
        ("paged_adamw_8bit", 4097, 2 * 4097 + 8 * 17),
    ],
)
def test_optimizer_states(optimizer: str, count: int, expected: int) -> None:
    assert optimizer_bytes([count], optimizer) == expected
    assert optimizer_bytes([count, count], optimizer) == 2 * expected


@pytest.mark.parametrize(
    "name", ["adamw_torch_fused", "adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]
)
def test_the_states_of_a_real_optimizer_are_as_large(name: str) -> None:
    from qlora_demo.engine.memory.optimizers import make_optimizer

    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((100,), (64, 65), (128, 40))]
    optimizer = make_optimizer(name, parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for key, value in state.items() if not key.startswith("qmap")]
    states = [value.nbytes for value in kept if isinstance(value, torch.Tensor) and value.numel() > 1]
    assert sum(states) == optimizer_bytes([parameter.numel() for parameter in parameters], name)


def test_activations_grow_linearly_with_the_batch() -> None:
    one, two, seven = (predict_budget(small(), batch_size=batch, length=16) for batch in (1, 2, 7))
    assert seven.activations_bytes == pytest.approx(
        one.activations_bytes + 6 * (two.activations_bytes - one.activations_bytes), rel=0.001
    )


def test_gradient_checkpointing_saves_activations() -> None:
    kept, recomputed = (
        predict_budget(small(), batch_size=8, length=64, gradient_checkpointing=on) for on in (False, True)
    )
    assert recomputed.activations_bytes < kept.activations_bytes / 3
    assert recomputed.total_bytes < kept.total_bytes
    assert recomputed.gradients_bytes == kept.gradients_bytes


def test_accumulated_gradients_stand_through_the_forward_pass() -> None:
    once, often = (predict_budget(small(), batch_size=8, length=64, accumulation=count) for count in (1, 4))
    assert once.step_bytes < often.step_bytes <= once.step_bytes + once.gradients_bytes


def test_full_needs_more_than_16_bit_lora_and_that_more_than_qlora() -> None:
    qlora, lora, full = (one_b()[way][0] for way in ("QLoRA", "16-bit LoRA", "full fine-tuning"))
    assert qlora.total_bytes < lora.total_bytes < full.total_bytes
    # FP32 weights, gradients and two states of each: 16 bytes a parameter.
    assert full.precision == FULL
    assert full.weights_bytes + full.gradients_bytes + full.optimizer_bytes == 4 * full.weights_bytes
    assert full.adapter_bytes == full.constants_bytes == 0


def test_a_larger_gpu_takes_no_smaller_batch() -> None:
    found = {(fit.gpu, fit.way): fit for fit in fit_hardware({"cuda": one_b()}, (), GPUS)}
    assert len(found) == len(GPUS) * 3
    for (gpu, way), fit in found.items():
        assert fit.batch_size & (fit.batch_size - 1) == 0
        assert not fit.batch_size or fit.needed_bytes <= fit.memory_bytes
        assert needed_bytes(one_b()[way], fit.batch_size * 2 or 1) > fit.memory_bytes
        assert all(
            fit.batch_size <= other.batch_size
            for other in found.values()
            if other.way == way and other.memory_bytes > GPUS[gpu]
        )
    assert found["T4", "full fine-tuning"].batch_size == 0, "16 bytes a parameter are more than a T4 has"
    assert found["T4", "QLoRA"].batch_size >= 1


def test_a_receipt_says_predicted_error_and_step() -> None:
    found = predict_budget(small(), batch_size=2, length=16)
    told = receipt(found, 1_000_000, 2_000_000, 7)
    assert told.predicted_peak_bytes == 1_000_000 + found.step_bytes and told.at_step == 7
    assert told.error == pytest.approx(told.predicted_peak_bytes / 2_000_000 - 1, abs=1e-4)
    nothing = receipt(None, 1_000_000, 2_000_000, 7)
    assert nothing.predicted_peak_bytes is nothing.error is nothing.budget is None


def test_a_model_that_needs_numbers_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from qlora_demo.core.errors import ModelError

    monkeypatch.setattr(training_step, "cross_entropy", lambda logits, *_, **__: bool(logits.sum() > 0))
    with pytest.raises(ModelError, match="cannot be predicted without its numbers"):
        predict_budget(small(), batch_size=2, length=16)
