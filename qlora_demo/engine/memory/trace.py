"""Which storages come and go while a model works, what follows from that list (peaks and their parts), and what the C
library makes of it.

Sees tensors only, real or fake; knows neither models nor formulas of memory.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Trace:
    """A pass as a list: n >= 0 is a storage of n bytes that came, -k says that the k-th to come (from 1) went.

    forward_end, backward_end: how long the list was then. logits, gradients: the numbers of those storages.
    """

    events: list[int] = field(default_factory=list)
    forward_end: int = 0
    backward_end: int = 0
    logits: frozenset[int] = frozenset()
    gradients: frozenset[int] = frozenset()

    def alive_peak(self) -> int:
        """The most bytes alive at once."""
        return step_parts(self).peak_bytes


@dataclass(frozen=True)
class StepParts:
    """The parts of one pass; see records.Budget."""

    gradients_bytes: int
    activations_bytes: int
    logits_bytes: int
    workspace_bytes: int
    overlap_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once."""
        return (
            self.gradients_bytes
            + self.activations_bytes
            + self.logits_bytes
            + self.workspace_bytes
            - self.overlap_bytes
        )


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2 (mallinfo(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")
    )
    _fields_ += tuple((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost"))


class ShadowHeap:
    """What the C library asks of the system when storages really come and go: the blocks are taken from it and never
    touched.

    A torch tensor on a CPU is a block aligned to 64 bytes, and glibc before 2.38 cannot put such a block into the gap
    that an equal one left, once some small block (a node of the graph, a tensor's own record) has settled in the rest
    of the gap (glibc bug 14581). So gaps add up, to as much again as is alive. How much depends on the order of all
    blocks, small ones too, and on MALLOC_ variables: therefore it is tried in the process that will train, in fake
    passes whose small blocks are the graph's own. It costs addresses, no memory. `works` is False where the library
    does not tell (no glibc, or one before 2.33)."""

    ALIGNMENT = 64  # of torch's storages on a CPU (c10/core/alignment.h)
    SMALL = 4096  # blocks below do not move the peak, and asking takes microseconds

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None)
        self.works = sys.platform == "linux" and hasattr(self._libc, "mallinfo2")
        self._blocks: dict[int, int] = {}
        self._most = self._standing = self._gaps = self._alive = self._most_alive = 0
        self._sizes: dict[int, int] = {}
        if not self.works:
            return
        self._libc.mallinfo2.restype = _Mallinfo
        self._libc.free.argtypes = [ctypes.c_void_p]
        self._libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
        gc.collect()
        heap = self._libc.mallinfo2()
        self._most = self._standing = heap.arena + heap.hblkhd
        self._gaps = heap.fordblks

    @property
    def peak_bytes(self) -> int:
        """The most that the heap grew by, and what stood in gaps before: they are filled first, by no more than is
        alive.
        """
        return int(self._most - self._standing + min(self._gaps, self._most_alive))

    def take(self, number: int, count: int) -> None:
        place = ctypes.c_void_p()
        if not self.works or self._libc.posix_memalign(ctypes.byref(place), self.ALIGNMENT, max(count, 1)):
            self.works = False
            return
        self._blocks[number] = place.value or 0
        self._sizes[number] = count
        self._alive += count
        self._most_alive = max(self._most_alive, self._alive)
        if count >= self.SMALL:
            heap = self._libc.mallinfo2()
            self._most = max(self._most, heap.arena + heap.hblkhd)

    def give(self, number: int) -> None:
        if number in self._blocks:
            self._libc.free(self._blocks.pop(number))
            self._alive -= self._sizes.pop(number)

    def close(self) -> None:
        for number in list(self._blocks):
            self.give(number)


class LiveBytes(TorchDispatchMode):
    """While it is entered, writes down every storage that operations make, and when it goes. `known` ones are left out.

    What a kernel takes and gives back inside one operation is not seen. With a `heap`, blocks come and go there too.

    Autograd adds up the gradients of a tensor that was used twice in place, but not while it is watched
    (input_buffer.cpp: subclasses are never accumulated in place). So a sum in the backward pass takes over the block of
    an addend that goes right after."""

    def __init__(self, known: Iterable[torch.Tensor], heap: ShadowHeap | None = None):
        super().__init__()
        self.trace = Trace()
        self._heap = heap
        self._came = 0
        self._backward = False
        self._sum: tuple[int, int, tuple[int, ...]] | None = (
            None  # (address, bytes, numbers of its addends), not written down yet
        )
        # By address; a storage of `known` lives on as long as they do, so its address is not used again.
        self._numbers: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                adds = self._backward and func is torch.ops.aten.add.Tensor
                self._see(
                    tensor.untyped_storage(), [item for item in args if isinstance(item, torch.Tensor)] if adds else []
                )
        return out

    def mark_forward(self, logits: torch.Tensor) -> None:
        self._backward = True
        self.trace.forward_end = len(self.trace.events)
        self.trace.logits = self._numbered([logits])

    def mark_backward(self, gradients: Iterable[torch.Tensor]) -> None:
        self._settle()
        self.trace.backward_end = len(self.trace.events)
        self.trace.gradients = self._numbered(gradients)

    def _see(self, storage: torch.UntypedStorage, addends: Sequence[torch.Tensor]) -> None:
        key = storage._cdata
        if key in self._numbers:
            return
        self._settle()
        self._numbers[key] = 0
        self._sum = (
            key,
            storage.nbytes(),
            tuple(self._numbered(item for item in addends if _bytes(item) == storage.nbytes())),
        )
        if not self._sum[2]:
            self._settle()
        weakref.finalize(storage, self._went, key).atexit = False

    def _settle(self) -> None:
        """Writes down the storage that waits: nothing was taken over."""
        if self._sum is not None:
            (key, count, _), self._sum = self._sum, None
            self._came += 1
            self._numbers[key] = self._came
            self.trace.events.append(count)
            if self._heap is not None:
                self._heap.take(self._came, count)

    def _went(self, key: int) -> None:
        if self._sum is not None and self._numbers.get(key) in self._sum[2]:
            self._numbers[self._sum[0]] = self._numbers.pop(key)
            self._sum = None
            return
        self._settle()
        number = self._numbers.pop(key)
        self.trace.events.append(-number)
        if self._heap is not None:
            self._heap.give(number)

    def _numbered(self, tensors: Iterable[torch.Tensor]) -> frozenset[int]:
        return frozenset(self._numbers.get(tensor.untyped_storage()._cdata, 0) for tensor in tensors) - {0}


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def step_parts(trace: Trace, standing_gradients: bool = False) -> StepParts:
    """The parts of a pass. Activations are what is alive when the forward pass ends, workspace is the most beside them
    and gradients.

    standing_gradients: those of the passes before are there from the start (accumulation).
    """
    sizes = [event for event in trace.events if event >= 0]
    went = {-event for event in trace.events[: trace.forward_end] if event < 0}
    came = sum(event >= 0 for event in trace.events[: trace.forward_end])
    saved = {number for number in range(1, came + 1) if number not in went}
    total = {"saved": sum(sizes[n - 1] for n in saved), "gradients": sum(sizes[n - 1] for n in trace.gradients)}
    logits = sum(sizes[n - 1] for n in trace.logits & saved)
    alive, workspace, peak, number = {"saved": 0, "gradients": 0, "other": 0}, 0, 0, 0
    for event in trace.events:
        number += event >= 0
        which = number if event >= 0 else -event
        part = "saved" if which in saved else "gradients" if which in trace.gradients else "other"
        alive[part] += event if event >= 0 else -sizes[which - 1]
        workspace = max(workspace, alive["other"])
        standing = total["gradients"] - alive["gradients"] if standing_gradients else 0
        peak = max(peak, sum(alive.values()) + standing)
    return StepParts(
        total["gradients"],
        total["saved"] - logits,
        logits,
        workspace,
        total["saved"] + total["gradients"] + workspace - peak,
    )
