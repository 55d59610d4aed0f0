"""How much memory a run may take, and the smallest change of its settings that is predicted to fit where that was too
little.

On a CPU the process sets itself a limit, so that memory runs out with an error that can be caught: without one the
system would kill the process, and with it every word on why. Knows nothing of how a run trains."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from ...core.config import RunConfig
from ...core.errors import DemoError, MemoryRanOut
from ...core.format import describe_changes, size
from ...core.safety import RUN_MARGIN
from ..memory import training_step
from ..memory.process import give_back
from ..models.device import Device, free_memory_bytes, process_memory_bytes
from ..models.modeling import Base

Changes = dict[str, int | bool]  # of settings, by field
SHORTEST = 16  # tokens: a review cut below that is none


@dataclass
class MemoryLimit:
    """What a run may take and what its steps are made of, in bytes and tokens.

    limit_bytes: the most that this process can hold. standing_bytes: what it held before the first step. rows, length:
    reviews to train on, and tokens of the longest; 0 until they are known."""

    device: Device
    limit_bytes: int
    standing_bytes: int = 0
    rows: int = 0
    length: int = 0

    @property
    def left_bytes(self) -> int:
        return self.limit_bytes - self.standing_bytes

    def begin_steps(self) -> None:
        """Notes what is held before the first step; what is free but kept by the C library is given back first."""
        give_back()
        self.standing_bytes = _held_bytes(self.device)


def limit_memory(device: Device) -> MemoryLimit:
    """The limit of a run that begins in this process: what is free now and what is held already; on a CPU (Linux) it is
    set, too.
    """
    limit = _held_bytes(device) + free_memory_bytes(device.kind)
    if device.kind == "cpu" and sys.platform == "linux":
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = min([limit, *(given for given in (soft, hard) if given != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return MemoryLimit(device, limit)


def shortage(limit: MemoryLimit, config: RunConfig, base: Base, labels: int) -> MemoryRanOut:
    """The error of a run whose steps did not fit, with what would."""
    available = size(limit.limit_bytes)
    if not limit.standing_bytes:
        needed = f"scoring reviews needs more than the {available} available"
        return MemoryRanOut(f"Memory ran out before the first step: {needed}; take a smaller model.", {})
    changes = suggest(limit, config, base, labels)
    smaller = "even one short review is predicted not to fit: take a smaller model"
    advice = f"{describe_changes(changes)} is predicted to fit" if changes else smaller
    needed = f"steps of {min(config.batch_size, limit.rows)} x {limit.length} tokens need more than the {available}"
    return MemoryRanOut(f"Memory ran out: {needed} available; {advice}.", changes)


def suggest(limit: MemoryLimit, config: RunConfig, base: Base, labels: int) -> Changes:
    """The smallest change predicted to fit, by setting: batch down with accumulation up, then checkpointing, then
    length. Empty: none.
    """

    def fits(changes: Changes) -> bool:
        changed = config.model_copy(update=changes)
        length, batch = min(limit.length, changed.max_length), min(changed.batch_size, limit.rows)
        budget = training_step.predict_run(changed, base, labels, batch, length, try_allocator=False)
        return RUN_MARGIN[limit.device.kind] * budget.step_bytes <= limit.left_bytes

    try:
        for stage in _stages(config, limit.length):
            smaller = list(_smaller_batches(config, stage, limit.rows))
            # The smallest batch first: a stage where it does not fit is passed over whole.
            if smaller and fits(smaller[-1]):
                return next(changes for changes in smaller if fits(changes))
    except DemoError:  # a model whose steps cannot be predicted
        pass
    return {}


def _stages(config: RunConfig, length: int) -> Iterator[Changes]:
    """What is changed beside the batch, in order."""
    yield {}
    checkpointing: Changes = {} if config.gradient_checkpointing else {"gradient_checkpointing": True}
    if checkpointing:
        yield checkpointing
    while (length := length // 2) >= SHORTEST:
        yield {**checkpointing, "max_length": length}


def _smaller_batches(config: RunConfig, stage: Changes, rows: int) -> Iterator[Changes]:
    """Batches from the present one down to 1 (less the present one where nothing else changes), as many reviews per
    step.
    """
    first = batch = min(config.batch_size, rows)
    most = int(RunConfig.bounds("accumulation").maximum or 1)
    if stage:
        yield stage
    while batch > 1:
        batch //= 2
        accumulation = -(-first * config.accumulation // batch)
        yield {"batch_size": batch, "accumulation": min(accumulation, most), **stage}


def _held_bytes(device: Device) -> int:
    """As the limit counts: on a CPU all private data that the process has asked for, touched or not."""
    if device.kind == "cpu" and sys.platform == "linux":
        return int(psutil.Process().memory_info().data)
    return process_memory_bytes(device.kind)
