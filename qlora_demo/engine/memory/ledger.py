"""The byte ledger: what each stage of QLoRA holds in memory, predicted from a configuration and measured on a loaded
model.

Counts parameters, buffers and quantization constants, each storage once; not activations, gradients or optimizer state.
Knows nothing of jobs and pages.
"""

from __future__ import annotations

import copy
import gc
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import bitsandbytes as bnb
import torch
from peft import LoraConfig, prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from ...core.cancellation import DownloadStopped
from ...core.errors import DeviceError, ModelError
from ...core.format import GiB
from ...core.memory_report import MemoryStage, ModuleMemory, ProcessReading
from ...core.names import STAGES
from ...core.safety import LOAD_MARGIN
from ..models.blueprint import Blueprint
from ..models.build import add_lora
from ..models.compat import quantization_constants
from ..models.device import Kind, choose_device, free_memory_bytes
from ..models.layers import LayerPlan, Storage, linear_layers, load_model, lora_targets
from ..models.random_weights import random_checkpoint
from ..models.roles import layer_of, role_of
from ..models.sources import ModelSource
from .process import Watch

BLOCK = 64  # weights that share one constant (absmax)
BLOCK_OF_CONSTANTS = 256  # constants that share one second-level constant
NF4_BOOK_BYTES, BYTE_BOOK_BYTES, OFFSET_BYTES = 16 * 4, 256 * 4, 4  # kept by every layer


def constants_bytes(weights: int, rows: int, stage: str) -> int:
    """Bytes of quantization constants beside a matrix of `weights` weights and `rows` output rows.

    NF4: one float32 for 64 weights, and the code book. Double quantization: one byte instead, one float32 for 256 of
    those, their code book and their mean. int8: one float32 a row. (QLoRA paper, section 3; layout: bitsandbytes
    QuantState.)"""
    if stage == "int8":
        return 4 * rows
    blocks = -(-weights // BLOCK)
    if stage == "nf4":
        return 4 * blocks + NF4_BOOK_BYTES
    return blocks + 4 * -(-blocks // BLOCK_OF_CONSTANTS) + NF4_BOOK_BYTES + BYTE_BOOK_BYTES + OFFSET_BYTES


def packed_bytes(weights: int, stage: str) -> int:
    """Bytes of a quantized matrix without its constants: one a weight for int8, one for two weights for NF4."""
    return weights if stage == "int8" else -(-weights // 2)


def predict(
    blueprint: Blueprint, stages: Sequence[str] = tuple(STAGES), rank: int = 16, targets: str = "all-linear"
) -> list[MemoryStage]:
    """The ledger of each stage, from the description alone; no weight is read. Raises ModelError for targets that
    cannot be.
    """
    plan, half = blueprint.plan, blueprint.model
    full = blueprint.copy_model(torch.float32) if {"fp32", "lora"} & set(stages) else half
    result = []
    for stage in sorted(stages, key="lora".__eq__):  # last: PEFT changes the model
        basis = full if stage == "fp32" else half
        weights, constants = _predicted_weights(basis, plan, stage)
        adapter = _adapter_bytes(attach(full, plan, rank, targets, on_meta=True)) if stage == "lora" else 0
        quantized = 0 if stage in ("fp32", "fp16") else len(plan.quantized)
        kept = len(plan.quantized) + len(plan.kept) - quantized
        buffers = _total(basis.buffers())
        result.append(MemoryStage(stage, "predicted", weights, constants, buffers, adapter, quantized, kept))
    return sorted(result, key=lambda stage: list(stages).index(stage.name))


def measure(
    blueprint: Blueprint,
    stages: Sequence[str] = tuple(STAGES),
    rank: int = 16,
    targets: str = "all-linear",
    *,
    random_weights: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_stage: Callable[[MemoryStage, ProcessReading], None] = lambda stage, process: None,
) -> list[MemoryStage]:
    """The ledger of each stage, read off the model loaded at that stage: one at a time, before any forward pass.

    random_weights: of the shape alone; weights are drawn, written to a temporary folder, and loaded as any other.
    on_stage receives each as it is done, with what the process took for it; `should_stop()` is asked before each.
    Raises ModelError, or DeviceError where a stage will not fit (nothing is loaded then)."""
    source = blueprint.source
    if not random_weights and not (isinstance(source, ModelSource) and source.has_weights):
        raise ModelError(
            f"The weights of {blueprint.name} are not here, only its shape; download them, or ask for random weights."
        )
    kind = choose_device().kind
    result = []
    with tempfile.TemporaryDirectory(prefix="qlora-demo-random-") as scratch:
        files = random_checkpoint(blueprint, Path(scratch)) if random_weights else cast(ModelSource, source)
        for expected in predict(blueprint, stages, rank, targets):
            if should_stop():
                raise DownloadStopped("The measurement was stopped.")
            _refuse_if_too_large(expected, blueprint.name, kind)
            stage, process = _measure_one(files, blueprint, expected.name, kind, rank, targets)
            gc.collect()  # the model is gone here; its memory must be too, before the next one is loaded
            if kind == "cuda":
                torch.cuda.empty_cache()
            on_stage(stage, process)
            result.append(stage)
    return result


def architecture(blueprint: Blueprint) -> list[ModuleMemory]:
    """The modules that hold tensors, in FP16 (before) and as NF4 with double quantization (after), in the model's
    order.
    """
    quantized = set(blueprint.plan.quantized)
    counted: set[int] = set()
    rows = []
    for name, module in blueprint.model.named_modules():
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if tensors:
            dense = sum(_size(tensor, counted) for tensor in tensors)
            weight = getattr(module, "weight", tensors[0])
            rows.append(_module_memory(name, module, weight, dense, name in quantized, blueprint.base_prefix))
    return rows


def _module_memory(
    name: str, module: nn.Module, weight: torch.Tensor, dense: int, quantized: bool, base: str
) -> ModuleMemory:
    count, kind, dtype = weight.numel(), type(module).__name__, str(weight.dtype).removeprefix("torch.")
    saved = count * weight.element_size() - packed_bytes(count, "nf4-dq") - constants_bytes(count, 0, "nf4-dq")
    return ModuleMemory(
        name=name,
        group=re.sub(r"(?<![^.])\d+(?![^.])", "*", name),
        shape=list(weight.shape),
        dtype_before=dtype,
        dtype_after="nf4" if quantized else dtype,
        kind_before=kind,
        kind_after="Linear4bit" if quantized else kind,
        bytes_before=dense,
        bytes_after=dense - saved if quantized else dense,
        changed=quantized,
        role=role_of(name, type(module), base),
        layer=layer_of(name, base),
    )


def attach(model: nn.Module, plan: LayerPlan, rank: int, targets: str, *, on_meta: bool = False) -> nn.Module:
    """The model with fresh FP32 adapters on `targets` and trainable copies of the head (PEFT); on_meta: without memory
    for them.
    """
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=2 * rank,
        target_modules=lora_targets(plan, targets),
        modules_to_save=list(plan.save_modules),
        fan_in_fan_out=False,
    )
    try:
        return add_lora(cast(PreTrainedModel, model), config, on_meta=on_meta)
    except ValueError as error:
        raise ModelError(f"LoRA does not go onto {targets!r} of this model: {str(error).splitlines()[0]}") from error


def _measure_one(
    files: ModelSource, blueprint: Blueprint, stage: str, kind: Kind, rank: int, targets: str
) -> tuple[MemoryStage, ProcessReading]:
    """Loads, transforms and measures one stage."""
    held = cast(Storage, "nf4-dq" if stage in ("prepared", "lora") else stage)
    dtype = torch.float32 if stage == "fp32" else torch.float16
    with Watch(kind) as watch:
        config = copy.deepcopy(blueprint.config)
        model: nn.Module = load_model(files, held, blueprint.plan, config, dtype=dtype, device=kind)
        if stage in ("prepared", "lora"):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if stage == "lora":
            model = attach(model, blueprint.plan, rank, targets)
    return measure_loaded(model, stage), watch.reading(stage)


def measure_loaded(model: nn.Module, stage: str) -> MemoryStage:
    """The ledger of a loaded model as it is now. Adapters are recognised by PEFT's names."""
    counted: set[int] = set()
    parameters = list(model.named_parameters())
    adapter = sum(_size(value, counted) for name, value in parameters if is_adapter(name))
    weights = sum(_size(value, counted) for name, value in parameters if not is_adapter(name))
    constants = sum(_size(value, counted) for module in model.modules() for value in quantization_constants(module))
    buffers = sum(_size(value, counted) for value in model.buffers())
    quantized = sum(
        isinstance(module, (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt))
        for name, module in model.named_modules()
        if not is_adapter(name)
    )
    return MemoryStage(
        stage,
        "measured",
        weights,
        constants,
        buffers,
        adapter,
        quantized,
        sum(not is_adapter(name) for name in linear_layers(model)),
    )


def _predicted_weights(model: PreTrainedModel, plan: LayerPlan, stage: str) -> tuple[int, int]:
    """(weights_bytes, constants_bytes) of a stage, from the meta model in that stage's dtype."""
    dense = stage in ("fp32", "fp16")
    prepared = stage in ("prepared", "lora")
    quantized = set() if dense else {f"{name}.weight" for name in plan.quantized}
    weights = constants = 0
    for name, value in model.named_parameters():  # tied parameters come once
        if name in quantized:
            rows = model.get_submodule(name.removesuffix(".weight"))
            out = value.shape[0] if type(rows) is nn.Linear else value.shape[1]  # Conv1D is stored transposed
            weights += packed_bytes(value.numel(), stage)
            constants += constants_bytes(value.numel(), out, stage)
        else:
            # prepare_model_for_kbit_training casts whatever is 16-bit and not quantized to FP32.
            weights += value.numel() * (4 if prepared and value.is_floating_point() else value.element_size())
    return weights, constants


def _adapter_bytes(model: nn.Module) -> int:
    return sum(value.numel() * 4 for name, value in model.named_parameters() if is_adapter(name))


def is_adapter(name: str) -> bool:
    """Whether a parameter or module of that name was added by PEFT: LoRA's matrices, and the trained copy of the
    head.
    """
    return ".lora_" in name or ".modules_to_save." in name


def _total(tensors: Iterable[torch.Tensor]) -> int:
    counted: set[int] = set()
    return sum(_size(tensor, counted) for tensor in tensors)


def _size(tensor: torch.Tensor, counted: set[int]) -> int:
    """Bytes of a tensor's storage; 0 if that storage was counted before (tied weights)."""
    storage = tensor.untyped_storage()
    key = storage._cdata if tensor.device.type == "meta" else storage.data_ptr()
    if storage.nbytes() == 0 or key in counted:
        return 0
    counted.add(key)
    return min(storage.nbytes(), tensor.numel() * tensor.element_size())


def _refuse_if_too_large(expected: MemoryStage, name: str, kind: Kind) -> None:
    free = free_memory_bytes(kind)
    if expected.total_bytes * LOAD_MARGIN > free:
        raise DeviceError(
            f"{name} at {expected.name} takes {expected.total_bytes / GiB:.1f} GiB, and {free / GiB:.1f} GiB are free;"
            " choose fewer stages or a smaller model; the prediction needs no memory."
        )
