"""How much memory a run may take, and the smallest change of its settings that is predicted to fit where that was too
little.

On a CPU the process sets itself a limit, so that memory runs out with an error that can be caught: without one the
system would kill the process, and with it every word on why. Knows nothing of how a run trains."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from ...core.config import RunConfig
from ...core.errors import DemoError, MemoryRanOut
from ...core.format import describe_changes, size
from ...core.safety import RUN_MARGIN
from ..memory import training_step
from ..memory.process import give_back
from ..models.device import Device, free_memory_bytes, process_memory_bytes
from ..models.modeling import Base

SHORTEST = 16  # tokens: a review cut below that is none


@dataclass
class Room:
    """What a run may take and what its steps are made of, in bytes and tokens.

    limit_bytes: the most that this process can hold. standing_bytes: what it held before the first step. rows, length:
    reviews to train on, and tokens of the longest; 0 until they are known."""

    device: Device
    limit_bytes: int
    standing_bytes: int = 0
    rows: int = 0
    length: int = 0

    def stand(self) -> None:
        """Take what is held now, before the first step; what is free but kept by the C library is given back first."""
        give_back()
        self.standing_bytes = _held_bytes(self.device)


def make_room(device: Device) -> Room:
    """The room of a run that begins in this process; on a CPU (Linux) the limit is set, too: what is free now and is
    held already.
    """
    limit = _held_bytes(device) + free_memory_bytes(device.kind)
    if device.kind == "cpu" and sys.platform == "linux":
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = min([limit, *(given for given in (soft, hard) if given != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return Room(device, limit)


def explain(room: Room, config: RunConfig, base: Base, labels: int) -> MemoryRanOut:
    """The error of a run whose steps did not fit, with what would."""
    if not room.standing_bytes:
        sentence = (
            f"Memory ran out before the first step: more than the {size(room.limit_bytes)} there are is needed to score"
            " reviews"
        )
        return MemoryRanOut(f"{sentence}; take a smaller model.", {})
    found = suggest(room, config, base, labels)
    tried = f"{min(config.batch_size, room.rows)} x {room.length} tokens"
    smaller = "even one short review is predicted not to fit: take a smaller model"
    advice = f"{describe_changes(found)} is predicted to fit" if found else smaller
    return MemoryRanOut(
        f"Memory ran out: steps of {tried} need more than the {size(room.limit_bytes)} there are; {advice}.", found
    )


def suggest(room: Room, config: RunConfig, base: Base, labels: int) -> dict[str, Any]:
    """The smallest change predicted to fit, by setting: batch down with accumulation up, then checkpointing, then
    length. Empty: none.
    """

    def fits(changes: dict[str, Any]) -> bool:
        changed = config.model_copy(update=changes)
        length = min(room.length, changed.max_length)
        found = training_step.predict_run(
            changed, base, labels, min(changed.batch_size, room.rows), length, try_allocator=False
        )
        return room.standing_bytes + RUN_MARGIN[room.device.kind] * found.step_bytes <= room.limit_bytes

    try:
        for stage in _stages(config, room.length):
            smaller = list(_smaller_batches(config, stage, room.rows))
            if smaller and fits(
                smaller[-1]
            ):  # the smallest batch first: a stage where it does not fit is passed over whole
                return next(changes for changes in smaller if fits(changes))
    except DemoError:  # a model whose steps cannot be predicted
        pass
    return {}


def fits_now(room: Room, step_bytes: int) -> bool:
    """Whether a step predicted to take so much goes into what is left."""
    return room.standing_bytes + step_bytes <= room.limit_bytes


def _stages(config: RunConfig, length: int) -> Iterator[dict[str, Any]]:
    """What is changed beside the batch, in order."""
    yield {}
    checkpointing: dict[str, Any] = {} if config.gradient_checkpointing else {"gradient_checkpointing": True}
    if checkpointing:
        yield checkpointing
    while (length := length // 2) >= SHORTEST:
        yield {**checkpointing, "max_length": length}


def _smaller_batches(config: RunConfig, stage: dict[str, Any], rows: int) -> Iterator[dict[str, Any]]:
    """Batches from the present one down to 1 (less the present one where nothing else changes), the reviews a step
    kept.
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
