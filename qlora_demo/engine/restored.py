"""A copy of a 4-bit network for answering alone: its weights are restored once, where each pass would restore all of them anew.

A pass multiplies by exactly these numbers. What is given up is the memory: 2 bytes a weight in BF16 where NF4 takes half a byte, and 4 on
a processor that has no instructions for BF16. There PyTorch takes five times as long for a BF16 pass as for one in FP32, and sixteen times
for one there and back (benchmarks/restored.md), so the same rounded numbers are multiplied in FP32; a dense FP16 or BF16 model's, too.
Knows nothing of adapters or texts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import bitsandbytes as bnb
import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from .device import cpu_multiplies

LIMIT_PARAMETERS = 200_000_000  # of the network's 4-bit layers: above, memory is dearer than the time (0.4 GB in BF16)


class Restored(nn.Module):
    """A frozen linear layer that multiplies in `weight`'s dtype and answers in that of its input, as a 4-bit one does.

    On a CPU that lacks this dtype it keeps the same numbers in FP32, and rounds what goes in and what comes out: equal to the dtype's own
    product but for the order of the sum (one answer in some thousand differs by its last bit).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        super().__init__()
        self.dtype = weight.dtype
        held = torch.float32 if weight.device.type == "cpu" and not cpu_multiplies(self.dtype) else self.dtype
        self.register_buffer("weight", weight.to(held))
        self.register_buffer("bias", None if bias is None else bias.detach().to(self.dtype).to(held))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x.to(self.dtype).to(self.weight.dtype), self.weight, self.bias).to(self.dtype).to(x.dtype)


def restore_weights(model: nn.Module) -> int:
    """Replaces the 4-bit layers of `model` by restored ones, in place; gives how many. None are where they hold more than the limit."""
    packed = [place for place in _layers(model) if isinstance(place[2], bnb.nn.Linear4bit) and place[2].compute_dtype is not None]
    if sum(layer.in_features * layer.out_features for _, _, layer in packed) > LIMIT_PARAMETERS:
        return 0
    for parent, name, layer in packed:
        setattr(parent, name, Restored(_weight(layer), layer.bias))
    return len(packed)


def restore_dense(model: nn.Module) -> int:
    """Gives the dense layers of `model` that the processor has no instructions for the same numbers in FP32, in place; gives how many.

    For a model on the CPU, computed without autocast, which would undo it. The FP32 numbers take 4 bytes a weight, of 2 before.
    """
    slow = [
        place
        for place in _layers(model)
        if (type(place[2]) is nn.Linear or isinstance(place[2], Conv1D)) and not cpu_multiplies(place[2].weight.dtype)
    ]
    for parent, name, layer in slow:
        weight = layer.weight.detach()
        setattr(parent, name, Restored(weight.T.contiguous() if isinstance(layer, Conv1D) else weight, layer.bias))
    return len(slow)


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(module, name in it, the module of that name), of all modules."""
    return ((parent, name, child) for parent in model.modules() for name, child in parent.named_children())


def _weight(layer: bnb.nn.Linear4bit) -> torch.Tensor:
    """What the layer multiplies by (out, in), in its compute dtype."""
    packed: Any = layer.weight
    state = copy.copy(packed.quant_state)
    state.dtype = layer.compute_dtype
    restored: torch.Tensor = bnb.functional.dequantize_4bit(packed.data, state)
    return restored.contiguous()
