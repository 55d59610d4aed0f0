"""The byte ledger against numbers worked out by hand: GPT-2 with five labels, and what bitsandbytes allocates for odd
matrices.

Predictions only, from shapes that the app carries: no weights, no network. Whole models are weighed in
tests/integration."""

from __future__ import annotations

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes import functional

from qlora_demo.core.errors import ModelError
from qlora_demo.core.memory_report import MemoryStage
from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models import sources
from qlora_demo.engine.models.blueprint import read_blueprint

pytestmark = pytest.mark.usefixtures("no_hub")
PARAMETERS, QUANTIZABLE, MATRICES = 124_443_648, 84_934_656, 48
# 48 layers keep one code book of 16 float32 each; with double quantization also one of 256 and an offset.
CONSTANTS = {"nf4": 5_308_416 + MATRICES * 64, "nf4-dq": 1_347_840 + MATRICES * (64 + 1024 + 4)}
WEIGHTS = {"fp32": 497_774_592, "fp16": 248_887_296, "nf4": 121_485_312, "nf4-dq": 121_485_312, "prepared": 200_503_296}
ODD = [(1, 1), (5, 7), (1, 65), (36, 50), (96, 171), (128, 129), (333, 257), (64, 64)]


@pytest.fixture(scope="module")
def gpt2() -> dict[str, MemoryStage]:
    blueprint = read_blueprint(sources.resolve("openai-community/gpt2", config_only=True), 5)
    return {stage.name: stage for stage in ledger.predict(blueprint)}


def test_parameters_of_gpt2_equal_the_recipe(gpt2: dict[str, MemoryStage]) -> None:
    assert {name: gpt2[name].weights_bytes for name in WEIGHTS} == WEIGHTS
    assert WEIGHTS["fp32"] == 4 * PARAMETERS and WEIGHTS["nf4"] == QUANTIZABLE // 2 + 2 * (PARAMETERS - QUANTIZABLE)
    # What growing by preparation costs is the cast of everything that is not quantized, and nothing else.
    assert WEIGHTS["prepared"] - WEIGHTS["nf4-dq"] == 2 * (PARAMETERS - QUANTIZABLE)
    assert all(stage.source == "predicted" and stage.buffers_bytes == 0 for stage in gpt2.values())


def test_constants_of_gpt2_equal_the_recipe(gpt2: dict[str, MemoryStage]) -> None:
    found = {name: stage.constants_bytes for name, stage in gpt2.items()}
    quantized = {"nf4": CONSTANTS["nf4"], **dict.fromkeys(("nf4-dq", "prepared", "lora"), CONSTANTS["nf4-dq"])}
    # int8: one float32 for each output of c_attn, attn.c_proj, c_fc and mlp.c_proj in twelve blocks.
    assert found == {"fp32": 0, "fp16": 0, "int8": 4 * 12 * (2304 + 768 + 3072 + 768), **quantized}
    saved = 8 * (found["nf4"] - found["nf4-dq"]) / QUANTIZABLE
    assert 0.36 < saved < 0.374, "double quantization saves 0.373 bits a weight, less the larger code books"


def test_layers_and_adapters_of_gpt2(gpt2: dict[str, MemoryStage]) -> None:
    dense, rest = {"fp32", "fp16"}, gpt2.keys() - {"fp32", "fp16"}
    assert {(gpt2[name].quantized_layers, gpt2[name].kept_layers) for name in dense} == {(0, MATRICES + 1)}
    assert {(gpt2[name].quantized_layers, gpt2[name].kept_layers) for name in rest} == {(MATRICES, 1)}
    assert {gpt2[name].adapter_bytes for name in gpt2.keys() - {"lora"}} == {0}
    assert gpt2["lora"].adapter_bytes == 4 * 2_363_136, "the recipe's trainable parameters: rank 16, and the head once"
    assert gpt2["int8"].weights_bytes == QUANTIZABLE + 2 * (PARAMETERS - QUANTIZABLE)
    total = WEIGHTS["prepared"] + CONSTANTS["nf4-dq"] + 4 * 2_363_136
    assert gpt2["lora"].total_bytes == gpt2["lora"].to_dict()["total_bytes"] == total


def test_a_shape_without_weights_is_predicted_offline() -> None:
    source = sources.resolve("Qwen/Qwen3-8B", config_only=True)
    assert not source.has_weights and "carried with the app" in source.note
    whole, embedding = 8_190_735_360, 151_936 * 4096  # the causal model as published, its two embeddings untied
    parameters = whole - embedding + 5 * 4096
    blueprint = read_blueprint(source, 5)
    assert blueprint.parameters == parameters
    [nf4], [lora] = ledger.predict(blueprint, ["nf4"]), ledger.predict(blueprint, ["lora"], rank=8, targets="q_proj")
    matrices = 36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12_288)
    assert nf4.weights_bytes == matrices // 2 + 2 * (parameters - matrices) and nf4.quantized_layers == 36 * 7
    assert lora.adapter_bytes == 4 * (36 * 8 * (4096 + 4096) + 5 * 4096)


def test_weights_that_are_not_here_are_not_measured() -> None:
    with pytest.raises(ModelError, match="The weights of gpt2 are not here, only its shape"):
        ledger.measure(read_blueprint(sources.resolve("gpt2", config_only=True), 5))


def test_the_plan_of_gpt2_keeps_the_head() -> None:
    plan = read_blueprint(sources.resolve("openai-community/gpt2", config_only=True), 5).plan
    assert (plan.parameters, len(plan.quantized)) == (PARAMETERS, MATRICES)
    assert plan.kept == plan.save_modules == ("score",)


@pytest.mark.parametrize("shape", ODD, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("double", [False, True], ids=["nf4", "nf4-dq"])
def test_nf4_of_odd_sizes_is_what_bitsandbytes_allocates(shape: tuple[int, int], double: bool) -> None:
    packed, state = functional.quantize_4bit(torch.randn(shape).half(), quant_type="nf4", compress_statistics=double)
    kept = [state.absmax, state.code, *([state.offset, state.state2.absmax, state.state2.code] if double else [])]
    stage, weights = "nf4-dq" if double else "nf4", shape[0] * shape[1]
    assert ledger.packed_bytes(weights, stage) == packed.untyped_storage().nbytes()
    assert ledger.constants_bytes(weights, shape[0], stage) == sum(tensor.untyped_storage().nbytes() for tensor in kept)


@pytest.mark.parametrize("shape", ODD[:5], ids=lambda shape: "x".join(map(str, shape)))
def test_int8_of_odd_sizes_is_what_bitsandbytes_allocates(shape: tuple[int, int]) -> None:
    weight = bnb.nn.Int8Params(torch.randn(shape).half(), requires_grad=False, has_fp16_weights=False).to("cpu")
    assert weight.dtype == torch.int8
    assert ledger.packed_bytes(weight.numel(), "int8") == weight.untyped_storage().nbytes()
    assert ledger.constants_bytes(weight.numel(), shape[0], "int8") == weight.SCB.untyped_storage().nbytes()
