"""What this process really holds: now, at its peak, and while something runs.

Resident memory on a CPU (from /proc where there is one), torch's own counters on a GPU. Importing it loads no heavy
library; knows neither models nor steps.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import psutil

from ...core.cancellation import Repeating
from ...core.memory_report import ProcessReading

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> dict[str, int]:
    """`{VmRSS, VmHWM, RssAnon, RssFile}` of this process in bytes: now, its peak, and the two kinds; empty where there
    is no /proc.
    """
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon", "RssFile")))
    return {name.rstrip(":"): 1024 * int(kib) for name, kib, *_ in fields}


def reset_peak(kind: str) -> bool:
    """Begin a new peak at what is held now; False where the system keeps no peak that can be reset (it is sampled
    then).
    """
    if kind == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        CLEAR.write_text("5")  # proc(5): resets the peak resident set size to the current one
    except OSError:
        return False
    return bool(resident())


def peak_bytes(kind: str) -> int:
    """The most held since `reset_peak`: allocated by torch on the GPU, resident on the CPU (what is resident now,
    without /proc).
    """
    if kind == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resident().get("VmHWM") or int(psutil.Process().memory_info().rss)


def current_bytes(kind: str) -> int:
    """What is held now, in the measure that `peak_bytes` uses; begins a new peak."""
    reset_peak(kind)
    return resident().get("VmRSS", 0) if kind == "cpu" and resident() else peak_bytes(kind)


def give_back() -> None:
    """Hands memory that is free but kept by the C library back to the system, so that what is resident is in use (glibc
    only).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Sampler(Repeating):
    """Samples resident memory every few milliseconds in a thread; the peaks of each kind are in `peaks`."""

    def __init__(self, seconds: float = 0.003):
        super().__init__(self._sample, seconds, "memory-sampler")
        self.peaks: dict[str, int] = {}

    def highest_bytes(self, kind: str) -> int:
        """The peak since it was reset; by the samples too, where the system's own cannot be reset."""
        return max(peak_bytes(kind), self.peaks.get("VmRSS", 0) if kind == "cpu" else 0)

    def _sample(self) -> None:
        for name, count in resident().items():
            self.peaks[name] = max(self.peaks.get(name, 0), count)


class Watch:
    """What this process takes while a model is loaded and transformed inside the `with` block; `reading` once it is
    over.
    """

    def __init__(self, kind: str):
        self._kind, self._sampler = kind, Sampler()
        self._before = self._held = self._peak = 0
        self._before_anonymous: int | None = None

    def __enter__(self) -> Watch:
        give_back()
        self._before, self._before_anonymous = current_bytes(self._kind), resident().get("RssAnon")
        self._sampler.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.__exit__()
        self._peak = self._sampler.highest_bytes(self._kind)
        give_back()
        self._held = current_bytes(self._kind)

    def reading(self, stage: str) -> ProcessReading:
        if self._kind == "cuda":
            import torch

            reserved = int(torch.cuda.memory_reserved())
            return ProcessReading(stage, self._before, self._peak, self._held, reserved_bytes=reserved)
        anonymous = self._sampler.peaks.get("RssAnon")
        return ProcessReading(stage, self._before, self._peak, self._held, self._before_anonymous, anonymous)
