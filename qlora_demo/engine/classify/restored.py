"""A copy of a 4-bit network for answering alone: its weights are restored once, where each pass would restore all of
them anew.

A pass multiplies by exactly these numbers. What is given up is the memory: 2 bytes a weight in BF16 where NF4 takes
half a byte, and 4 on a processor that has no instructions for BF16. There PyTorch takes five times as long for a BF16
pass as for one in FP32, and sixteen times for one there and back (benchmarks/restored.md), so the same rounded numbers
are multiplied in FP32; a dense FP16 or BF16 model's, too. Knows nothing of adapters or texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from typing import Any

import bitsandbytes as bnb
import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from ..models.compat import dequantized_weight
from ..models.device import cpu_multiplies
from ..models.layers import is_linear

LIMIT_PARAMETERS = 200_000_000  # of the layers replaced: above, memory is dearer than the time (0.4 GB in BF16)


class Restored(nn.Module):
    """A frozen linear layer that multiplies in `weight`'s dtype and answers in that of its input, as a 4-bit one does.

    On a CPU that lacks this dtype it keeps the same numbers in FP32, and rounds what goes in and what comes out: equal
    to the dtype's own product but for the order of the sum (one answer in some thousand differs by its last bit)."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        super().__init__()
        self.dtype = weight.dtype
        held = torch.float32 if _is_slow(weight) else self.dtype
        self.register_buffer("weight", weight.to(held))
        self.register_buffer("bias", None if bias is None else bias.detach().to(self.dtype).to(held))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight.dtype == self.dtype:
            return linear(x.to(self.dtype), self.weight, self.bias).to(x.dtype)
        # Autocast would turn the FP32 numbers back, and leave the answer in its dtype.
        mixed = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if mixed else nullcontext():
            answer = linear(x.to(self.dtype).to(self.weight.dtype), self.weight, self.bias).to(self.dtype)
        return answer if mixed else answer.to(x.dtype)


def restore_weights(model: nn.Module, kept: Collection[str] = ()) -> int:
    """Replaces the 4-bit layers of `model` by restored ones, in place; gives how many. One whose weights bitsandbytes
    does not give (compat.dequantized_weight) stays, and restores them at each pass.

    On a CPU that has no instructions for FP16 or BF16, dense layers of these dtypes, too. Modules that an adapter
    trained whole stay, and those whose names are in `kept`; and all, where more than the limit would be replaced."""
    layers = list(_layers(model, kept))
    packed = [
        place for place in layers if isinstance(place[2], bnb.nn.Linear4bit) and place[2].compute_dtype is not None
    ]
    slow = [place for place in layers if is_linear(place[2]) and _is_slow(place[2].weight)]
    parameters = sum(layer.in_features * layer.out_features for *_, layer in packed)
    if parameters + sum(layer.weight.numel() for *_, layer in slow) > LIMIT_PARAMETERS:
        return 0
    replaced = 0
    for parent, name, layer in packed:
        if (whole := dequantized_weight(layer)) is not None:
            setattr(parent, name, Restored(whole, layer.bias))
            replaced += 1
    for parent, name, layer in slow:
        weight = layer.weight.detach()
        setattr(parent, name, Restored(weight.T.contiguous() if isinstance(layer, Conv1D) else weight, layer.bias))
    return replaced


def _layers(model: nn.Module, kept: Collection[str], above: str = "") -> Iterator[tuple[nn.Module, str, Any]]:
    """(module, name in it, the module of that name)."""
    for name, child in model.named_children():
        if not isinstance(child, ModulesToSaveWrapper) and above + name not in kept:
            yield model, name, child
            yield from _layers(child, kept, f"{above}{name}.")


def _is_slow(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and not cpu_multiplies(weight.dtype)
