"""AdamW by its names in the settings: the Trainer's name for it, and the bytes of its states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer import Trainer

BLOCK = 256  # 8-bit states that share one FP32 constant (bitsandbytes/optim/optimizer.py, Optimizer2State.init_state)
SMALLEST_8BIT = 4096  # a parameter of fewer elements keeps 32-bit states (min_8bit_size, same file)


def trainer_name(optimizer: str) -> str:
    """The Trainer's name of an optimizer, which is longer for one."""
    return "adamw_bnb_8bit" if optimizer == "adamw_8bit" else optimizer


def optimizer_bytes(parameters: Iterable[int], optimizer: str) -> int:
    """Bytes of AdamW's two states for trained parameters of so many elements each.

    32 bits: 4 + 4 per element. 8 bits: 1 + 1, and two FP32 constants for each block of 256; below 4,096 elements 32
    bits all the same. Paging moves states between GPU and main memory and changes no size (bitsandbytes/optim/
    optimizer.py, Optimizer2State.init_state)."""
    total = 0
    for count in parameters:
        small = "8bit" not in optimizer or count < SMALLEST_8BIT
        total += 8 * count if small else 2 * count + 8 * -(-count // BLOCK)
    return total


def make_optimizer(optimizer: str, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that the Trainer would make for that setting."""
    arguments = TrainingArguments(
        output_dir="unused", optim=trainer_name(optimizer), report_to="none", use_cpu=not torch.cuda.is_available()
    )
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    made: Any = kind(parameters, **options)
    return made  # type: ignore[no-any-return]
