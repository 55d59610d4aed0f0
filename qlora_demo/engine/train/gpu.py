"""The GPU while a run trains, read by nvidia-smi: utilisation, memory, temperature, power; and the energy of the run.

Knows neither torch nor runs; without nvidia-smi it is silent.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from ...core.cancellation import Repeating
from ...core.format import MiB
from ...core.records import GpuReading
from ...core.run_report import Energy

EVERY_SECONDS = 5.0
FIELDS = ("utilization.gpu", "memory.used", "temperature.gpu", "power.draw")


def read_gpu() -> GpuReading | None:
    """The first GPU that this process may use; None where nvidia-smi does not answer."""
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", f"--id={which}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=4, check=True)
        share, mebibytes, celsius, watts = map(_number, done.stdout.strip().splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return GpuReading(
        None if share is None else share / 100, None if mebibytes is None else round(mebibytes * MiB), celsius, watts
    )


def _number(cell: str) -> float | None:
    """A cell of nvidia-smi's table: [N/A] or [Not Supported] is None."""
    with suppress(ValueError):
        return float(cell)
    return None


class GpuWatch:
    """While entered, hands a reading to `emit` every few seconds from a thread of its own, and adds up the energy.

    A reading that fails ends nothing: the next one stands for the time since the last."""

    def __init__(self, emit: Callable[[GpuReading], None], *, active: bool, every_seconds: float = EVERY_SECONDS):
        self._emit, self._active, self._every = emit, active, every_seconds
        self._joules, self._watts = 0.0, None  # type: float, float | None
        self._began = self._last = 0.0
        self._missed = 0.0
        self._readings = Repeating(self._read, every_seconds, "gpu-watch")

    def energy(self) -> Energy | None:
        """Power times time over all that was watched; None where the power could never be read."""
        if self._watts is None:
            return None
        seconds = self._last - self._began
        return Energy(
            joules=round(self._joules, 1),
            seconds=round(seconds, 1),
            source=f"nvidia-smi power.draw every {self._every:g} s, the whole GPU",
            share=round(1 - self._missed / seconds, 3) if seconds else 1.0,
        )

    def __enter__(self) -> Self:
        self._began = self._last = time.monotonic()
        if self._active:
            self._readings.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._readings.__exit__(kind, error, trace)
            self._add(self._watts)  # since the last reading

    def _read(self) -> None:
        reading = read_gpu()
        if reading is not None and reading.watts is not None:
            self._add(reading.watts)
        if reading is not None:
            with suppress(OSError):  # a full disk is for the run itself to meet
                self._emit(reading)

    def _add(self, watts: float | None) -> None:
        """Power over the time since the last reading; what is beyond the usual distance was missed."""
        now = time.monotonic()
        if watts is not None:
            self._joules += watts * (now - self._last)
            self._missed += max(0.0, now - self._last - 2 * self._every)
            self._watts, self._last = watts, now
