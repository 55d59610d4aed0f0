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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import bitsandbytes as bnb
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ...core.cancellation import DownloadStopped
from ...core.errors import DeviceError, ModelError
from ...core.memory_report import MemoryStage, ModuleMemory, ProcessReading
from ...core.names import STAGES
from ...core.safety import LOAD_MARGIN
from ..models.device import Kind, choose_device, free_memory_bytes
from ..models.layers import (
    LayerPlan,
    Storage,
    linear_layers,
    load_model,
    lora_targets,
    meta_model,
    missing_modules,
    plan_for,
)
from ..models.random_weights import random_checkpoint
from ..models.roles import layer_of, role_of
from ..models.sources import ModelSource
from .process import Watch

Source = ModelSource | PretrainedConfig
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
    source: Source, labels: int, stages: Sequence[str] = tuple(STAGES), rank: int = 16, targets: str = "all-linear"
) -> list[MemoryStage]:
    """The ledger of each stage, from the configuration (and the checkpoint's header, where it is there); no weight is
    read.

    Raises ModelError for a model, label count or targets that cannot be.
    """
    model, new = missing_modules(source, labels)
    plan = plan_for(model, new)
    result = []
    for stage in stages:
        basis = meta_model(model.config, dtype=torch.float32)[0] if stage == "fp32" else model
        weights, constants = _predicted_weights(basis, plan, stage)
        adapter = (
            _adapter_bytes(attach(_fresh(model.config), plan, rank, targets, on_meta=True)) if stage == "lora" else 0
        )
        quantized = 0 if stage in ("fp32", "fp16") else len(plan.quantized)
        result.append(
            MemoryStage(
                stage,
                "predicted",
                weights,
                constants,
                _total(basis.buffers()),
                adapter,
                quantized,
                len(plan.quantized) + len(plan.kept) - quantized,
            )
        )
    return result


def count_parameters(source: Source, labels: int) -> int:
    """Parameters of the classifier, tied weights once."""
    model, _ = missing_modules(source, labels)
    return sum(parameter.numel() for parameter in model.parameters())


def count_base_parameters(source: Source) -> int:
    """Parameters of the model without a classifier's head, tied weights once."""
    model, _ = missing_modules(source, 2)
    return sum(parameter.numel() for parameter in model.base_model.parameters())


def measure(
    source: ModelSource,
    labels: int,
    stages: Sequence[str] = tuple(STAGES),
    rank: int = 16,
    targets: str = "all-linear",
    on_stage: Callable[[MemoryStage], None] | None = None,
    *,
    random_weights: bool = False,
    should_stop: Callable[[], bool] | None = None,
    on_process: Callable[[ProcessReading], None] | None = None,
) -> list[MemoryStage]:
    """The ledger of each stage, read off the model loaded at that stage: one at a time, before any forward pass.

    random_weights: weigh the shape; weights are drawn, written to a temporary folder, and loaded as any other. on_stage
    hears of each as it is done, on_process of what the process took for it; `should_stop()` is asked before each.
    Raises ModelError, or DeviceError where a stage will not fit (nothing is loaded then)."""
    if not random_weights and not source.has_weights:
        raise ModelError(
            f"The weights of {source.name} are not here, only its shape; download them, or ask for random weights."
        )
    with tempfile.TemporaryDirectory(prefix="qlora-demo-random-") as scratch:
        files = random_checkpoint(source, labels, Path(scratch)) if random_weights else source
        return list(_measured(files, labels, stages, rank, targets, on_stage, should_stop, on_process))


def architecture(source: Source, labels: int) -> list[ModuleMemory]:
    """The modules that hold tensors, in FP16 (before) and as NF4 with double quantization (after), in the model's
    order.
    """
    model, new = missing_modules(source, labels)
    quantized = set(plan_for(model, new).quantized)
    base = model.base_model_prefix if hasattr(model, model.base_model_prefix or " ") else ""
    counted: set[int] = set()
    rows = []
    for name, module in model.named_modules():
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if tensors:
            dense = sum(_size(tensor, counted) for tensor in tensors)
            weight = getattr(module, "weight", tensors[0])
            rows.append(_module_memory(name, module, weight, dense, name in quantized, base))
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
        return cast(nn.Module, get_peft_model(cast(PreTrainedModel, model), config, low_cpu_mem_usage=on_meta))
    except ValueError as error:
        raise ModelError(f"LoRA does not go onto {targets!r} of this model: {str(error).splitlines()[0]}") from error


def _measured(
    source: ModelSource,
    labels: int,
    stages: Sequence[str],
    rank: int,
    targets: str,
    on_stage: Callable[[MemoryStage], None] | None,
    should_stop: Callable[[], bool] | None,
    on_process: Callable[[ProcessReading], None] | None,
) -> Iterator[MemoryStage]:
    model, new = missing_modules(source, labels)
    plan, config, kind = plan_for(model, new), model.config, choose_device().kind
    expected = {stage.name: stage.total_bytes for stage in predict(source, labels, stages, rank, targets)}
    del model
    for stage in stages:
        if should_stop is not None and should_stop():
            raise DownloadStopped("The measurement was stopped.")
        _refuse_if_too_large(source, stage, expected[stage], kind)
        found, process = _measure_one(source, labels, stage, plan, config, kind, rank, targets)
        gc.collect()  # the model is gone here; its memory must be too, before the next one is loaded
        if kind == "cuda":
            torch.cuda.empty_cache()
        if on_process is not None:
            on_process(process)
        if on_stage is not None:
            on_stage(found)
        yield found


def _measure_one(
    source: ModelSource,
    labels: int,
    stage: str,
    plan: LayerPlan,
    config: PretrainedConfig,
    kind: Kind,
    rank: int,
    targets: str,
) -> tuple[MemoryStage, ProcessReading]:
    """Loads, transforms and measures one stage."""
    held = cast(Storage, "nf4-dq" if stage in ("prepared", "lora") else stage)
    dtype = torch.float32 if stage == "fp32" else torch.float16
    with Watch(kind) as watch:
        model: nn.Module = load_model(
            source, labels, held, plan, dtype=dtype, device=kind, config=copy.deepcopy(config)
        )
        if stage in ("prepared", "lora"):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if stage == "lora":
            model = attach(model, plan, rank, targets)
    return measure_loaded(model, stage), watch.reading(stage)


def measure_loaded(model: nn.Module, stage: str) -> MemoryStage:
    """The ledger of a loaded model as it is now. Adapters are recognised by PEFT's names."""
    counted: set[int] = set()
    parameters = list(model.named_parameters())
    adapter = sum(_size(value, counted) for name, value in parameters if is_adapter(name))
    weights = sum(_size(value, counted) for name, value in parameters if not is_adapter(name))
    constants = sum(_size(value, counted) for module in model.modules() for value in _constants(module))
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


def _constants(module: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that a quantized layer keeps out of sight of `parameters()` and `buffers()`."""
    weight = getattr(module, "weight", None)
    if isinstance(module, bnb.nn.Linear8bitLt):
        found = [getattr(weight, "SCB", None), getattr(weight, "CB", None)]
    else:
        state = getattr(weight, "quant_state", None)
        second = getattr(state, "state2", None)
        found = [
            getattr(state, "absmax", None),
            getattr(state, "code", None),
            getattr(state, "offset", None),
            getattr(second, "absmax", None),
            getattr(second, "code", None),
        ]
    yield from (item for item in found if isinstance(item, torch.Tensor))


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


def _fresh(config: PretrainedConfig) -> PreTrainedModel:
    """A fresh FP32 meta model for PEFT to change."""
    return meta_model(copy.deepcopy(config), dtype=torch.float32)[0]


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


def _refuse_if_too_large(source: ModelSource, stage: str, needed_bytes: int, kind: Kind) -> None:
    free = free_memory_bytes(kind)
    if needed_bytes * LOAD_MARGIN > free:
        raise DeviceError(
            f"{source.name} at {stage} takes {needed_bytes / 1024**3:.1f} GiB, and {free / 1024**3:.1f} GiB are free; "
            "choose fewer stages or a smaller model; the prediction needs no memory."
        )
