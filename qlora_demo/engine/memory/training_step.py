"""What a training step will take, predicted without memory for it: the very model, as training builds it, on tensors
without data.

One forward and backward pass runs on fake tensors while every storage that comes and goes is written down (live.py);
the rest is arithmetic on that list. No constant is fitted. Knows nothing of runs and pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import bitsandbytes as bnb
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy, one_hot
from transformers.pytorch_utils import Conv1D

from ...core.config import RunConfig
from ...core.errors import ModelError
from ...core.memory_report import Budget, Receipt
from ..models import compat
from ..models.blueprint import Blueprint, read_blueprint
from ..models.build import undisturbed
from ..models.modeling import Base, half_dtype
from . import ledger
from .optimizers import optimizer_bytes
from .process import give_back
from .trace import LiveBytes, ShadowHeap, Trace, step_parts

FULL = "full"  # every parameter trained, in FP32 under autocast: no precision of a run, a yardstick
_tracing = threading.Lock()  # torch keeps what it knows of fake tensors in one place for all threads
PACKING = 2560  # elements that such a copy has more, for alignment (observed: 5,120 bytes with every matrix)


def predict_budget(
    blueprint: Blueprint,
    *,
    batch_size: int,
    length: int,
    precision: str = "nf4-dq",
    rank: int = 16,
    targets: str = "all-linear",
    dropout: float = 0.0,
    gradient_checkpointing: bool = False,
    accumulation: int = 1,
    optimizer: str = "adamw_torch_fused",
    kind: str = "cpu",
    compute_dtype: str = "bfloat16",
    try_allocator: bool = False,
) -> Budget:
    """The parts of a step on `batch_size` reviews of `length` tokens; settings as RunConfig's, `precision` may be
    "full" too.

    try_allocator: find out what the C library adds; right in the process that will train, before it does. Else 0 is
    said. With a `kind` of "cuda" the same graph runs under autocast, by the CPU's rules of autocast: close, not
    measured on a GPU. Raises ModelError for what cannot be built or run without data."""
    compute = getattr(torch, compute_dtype)
    model = _model(blueprint, precision, rank, targets, dropout, compute)
    mixed = kind == "cuda" or precision in ("fp16", FULL)
    half = half_dtype(compute)
    if gradient_checkpointing:
        _checkpoint(model)

    def step(heap: ShadowHeap | None = None) -> Trace:
        return _step(model, batch_size, length, torch.autocast("cpu", dtype=half) if mixed else nullcontext(), heap)

    trace = step()
    parts = step_parts(trace, standing_gradients=accumulation > 1)
    trained = [value.numel() for value in model.parameters() if value.requires_grad]
    weights, constants, buffers, adapter = _model_bytes(model, precision)
    return Budget(
        batch_size,
        length,
        precision,
        kind,
        optimizer,
        gradient_checkpointing,
        weights,
        constants,
        buffers,
        adapter,
        parts.gradients_bytes,
        optimizer_bytes(trained, optimizer),
        parts.activations_bytes,
        parts.logits_bytes,
        parts.workspace_bytes,
        parts.overlap_bytes,
        _allocator_bytes(step, parts.peak_bytes, [optimizer_bytes([count], optimizer) for count in trained])
        if try_allocator and kind == "cpu"
        else 0,
    )


def predict_run(
    config: RunConfig, base: Base, labels: int, batch_size: int, length: int, *, try_allocator: bool = True
) -> Budget:
    """The budget of a run's longest batch, in the process that trains and once its model stands."""
    return predict_budget(
        read_blueprint(base.source, labels),
        batch_size=batch_size,
        length=length,
        precision=config.precision,
        rank=config.rank,
        targets=config.targets,
        dropout=config.dropout,
        gradient_checkpointing=config.gradient_checkpointing,
        accumulation=config.accumulation,
        optimizer=config.optimizer,
        kind=base.device.kind,
        compute_dtype=base.device.compute_dtype,
        try_allocator=try_allocator,
    )


def receipt(budget: Budget | None, standing_bytes: int, peak_bytes: int, at_step: int | None) -> Receipt:
    """A run's predicted beside its measured peak: what stood before step 1 (measured) and what the steps add to it
    (predicted).
    """
    predicted = standing_bytes + budget.step_bytes if budget and standing_bytes else None
    error = round(predicted / peak_bytes - 1, 4) if predicted and peak_bytes else None
    return Receipt(predicted, standing_bytes, error, at_step, budget)


def step_loss(logits: torch.Tensor) -> torch.Tensor:
    """A training step's loss on (n, k) logits as a run computes it, all reviews being of the first class."""
    targets = one_hot(torch.zeros(len(logits), dtype=torch.long, device=logits.device), logits.shape[1]).float()
    return cross_entropy(logits.float(), targets, reduction="sum") / len(logits)


class FrozenLinear(bnb.nn.Linear4bit):
    """A stand-in for a 4-bit layer: casts, dequantizes and multiplies as bitsandbytes does, on a matrix without data.

    A real Linear4bit cannot hold a fake tensor. It stays a subclass, so that PEFT puts its 4-bit LoRA layer on top.
    """

    def __init__(self, inner: int, outer: int, bias: bool, compute_dtype: torch.dtype, nested: bool):
        nn.Linear.__init__(self, inner, outer, bias=False, device="meta")
        self.weight.requires_grad_(False)
        weight: Any = self.weight
        weight.compress_statistics, weight.quant_type = nested, "nf4"
        self.compute_dtype = compute_dtype
        if bias:  # bitsandbytes casts the bias for good at the first pass
            self.bias = nn.Parameter(torch.empty(outer, dtype=compute_dtype, device="meta"), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cast_input = x.to(self.compute_dtype)
        return cast(torch.Tensor, _FrozenProduct.apply(cast_input, self.weight, self.bias)).to(x.dtype)


class _FrozenProduct(torch.autograd.Function):
    """bitsandbytes' MatMul4Bit: keeps no input, and restores the matrix once forward and once backward
    (autograd/_functions.py).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        constants = _constants(weight)  # they stay until the product is there
        matrix = torch.empty(weight.shape, dtype=x.dtype, device=weight.device)
        product = nn.functional.linear(x, matrix, bias)
        _pack(matrix)
        del matrix, constants
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        constants = _constants(ctx.weight)
        matrix = torch.empty(ctx.weight.shape, dtype=gradients[0].dtype, device=ctx.weight.device)
        del constants
        product = torch.matmul(gradients[0], matrix)
        _pack(matrix)
        return product, None, None


def _constants(weight: Any) -> torch.Tensor | None:
    """The constants that double quantization restores before a matrix: as FP32, and once more with their mean added."""
    if not weight.compress_statistics:
        return None
    restored = torch.empty(-(-weight.numel() // ledger.BLOCK), device=weight.device)
    return torch.empty_like(restored)


def _pack(matrix: torch.Tensor) -> None:
    """The copy in which oneDNN lays out a bfloat16 matrix for the moment of a product (seen in the allocations of real
    passes).
    """
    if matrix.dtype == torch.bfloat16:
        torch.empty(matrix.numel() + PACKING, dtype=matrix.dtype, device=matrix.device)


def _model(
    blueprint: Blueprint, precision: str, rank: int, targets: str, dropout: float, compute: torch.dtype
) -> nn.Module:
    """The model as `modeling.load_base` and `attach_lora` make it, on fake CPU tensors: the kernels are those of a
    CPU.
    """
    base = blueprint.copy_model(half_dtype(compute) if precision == "fp16" else torch.float32)
    base.config.use_cache = False
    if base.config.pad_token_id is None:  # GPT-2 and its kin refuse batches without one; which takes no memory
        end = base.config.eos_token_id
        base.config.pad_token_id = end if isinstance(end, int) else 0
    base.requires_grad_(precision == FULL)
    if precision.startswith("nf4"):
        _replace(base, blueprint.plan.quantized, compute, precision == "nf4-dq")
    model = base if precision == FULL else ledger.attach(base, blueprint.plan, rank, targets, on_meta=True)
    for part in model.modules() if dropout else ():
        compat.set_lora_dropout(part, dropout)
    for value in model.parameters():
        if value.requires_grad:
            value.data = value.data.float()
    _make_fake(model)
    return model.train()


def _replace(model: Any, names: Sequence[str], compute: torch.dtype, nested: bool) -> None:
    for name in names:
        old: Any = model.get_submodule(name)
        outer, inner = reversed(old.weight.shape) if isinstance(old, Conv1D) else old.weight.shape
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, FrozenLinear(inner, outer, old.bias is not None, compute, nested))
    compat.mark_as_4bit(model)


def _make_fake(model: nn.Module) -> None:
    """Meta tensors become fake CPU tensors, tied ones stay tied. On the meta device itself, attention takes other
    kernels.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    known: dict[int, torch.Tensor] = {}
    with mode:
        for module in model.modules():
            for held in (module._parameters, module._buffers):
                for name, old in held.items():
                    if old is None:
                        continue
                    if id(old) not in known:
                        fresh = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                        parameter = isinstance(old, nn.Parameter)
                        known[id(old)] = nn.Parameter(fresh, requires_grad=old.requires_grad) if parameter else fresh
                        compressed = getattr(old, "compress_statistics", False)
                        known[id(old)].compress_statistics = compressed  # type: ignore[attr-defined]
                    held[name] = known[id(old)]  # type: ignore[assignment]
    model._fake_mode = mode  # type: ignore[assignment]


def _checkpoint(model: Any) -> None:
    """Gradient checkpointing as the Trainer turns it on; without keeping the state of the random numbers (5 kB, and
    real).
    """
    if hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})


def _step(
    model: Any, batch: int, length: int, context: AbstractContextManager[Any], heap: ShadowHeap | None = None
) -> Trace:
    """One forward and backward pass on fake tokens, written down."""
    live = LiveBytes([*model.parameters(), *model.buffers()], heap)
    try:
        with _tracing, undisturbed(), model._fake_mode, live:
            tokens = torch.zeros((batch, length), dtype=torch.long)
            mask = torch.ones_like(tokens)
            with context:
                logits = model(input_ids=tokens, attention_mask=mask).logits
            loss = step_loss(logits)
            live.mark_forward(logits)
            loss.backward()
            live.mark_backward([value.grad for value in model.parameters() if value.grad is not None])
            del loss, logits, tokens, mask
            for value in model.parameters():
                value.grad = None
    except Exception as error:  # whatever a model does that needs numbers: there is nothing to predict then
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"A training step of this model cannot be predicted without its numbers: {first}.") from error
    return live.trace


def _model_bytes(model: nn.Module, precision: str) -> tuple[int, int, int, int]:
    """(weights, constants, buffers, adapter) as training holds them; equal to the ledger's stage `lora` for nf4-dq."""
    weights = constants = adapter = 0
    frozen = {id(module.weight): module for module in model.modules() if isinstance(module, FrozenLinear)}
    for name, value in model.named_parameters():
        if ledger.is_adapter(name):
            adapter += value.numel() * value.element_size()
        elif id(value) in frozen:
            weights += ledger.packed_bytes(value.numel(), precision)
            constants += ledger.constants_bytes(value.numel(), 0, precision)
        else:
            weights += value.numel() * value.element_size()
    return weights, constants, sum(value.numel() * value.element_size() for value in model.buffers()), adapter


def _allocator_bytes(step: Callable[[ShadowHeap], Trace], alive_bytes: int, states: Sequence[int]) -> int:
    """What the C library holds at the peak beyond what is alive, over two passes with the optimizer's states born
    between them.
    """
    give_back()
    heap = ShadowHeap()
    try:
        step(heap)
        for number, count in enumerate(states):
            heap.take(-1 - 2 * number, count // 2)
            heap.take(-2 - 2 * number, count - count // 2)
        step(heap)
        return max(0, heap.peak_bytes - alive_bytes - sum(states)) if heap.works else 0
    finally:
        heap.close()
        give_back()
