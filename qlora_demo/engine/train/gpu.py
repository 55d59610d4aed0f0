"""What the GPU does while a run trains, as nvidia-smi tells it: utilisation, memory, temperature, power; and the energy
of the run.

Knows neither torch nor runs; without nvidia-smi it is silent.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ...core.format import MiB
from ...core.records import GpuReading
from ...core.run_report import Energy

EVERY_SECONDS = 5.0
FIELDS = ("utilization.gpu", "memory.used", "temperature.gpu", "power.draw")


def read_gpu() -> GpuReading | None:
    """One look at the first GPU that this process may use; None where nvidia-smi does not answer."""
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", f"--id={which}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=4, check=True)
        found = [_number(cell) for cell in done.stdout.strip().splitlines()[0].split(",")]
        share, used, celsius, watts = found
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return GpuReading(
        None if share is None else share / 100, None if used is None else round(used * MiB), celsius, watts
    )


def _number(cell: str) -> float | None:
    """A cell of nvidia-smi's table; it says [N/A] or [Not Supported] where it does not know."""
    try:
        return float(cell)
    except ValueError:
        return None


class GpuWatch:
    """While entered, hands a reading to `emit` every few seconds from a thread of its own, and adds up the energy."""

    def __init__(self, emit: Callable[[GpuReading], None], *, active: bool, every_seconds: float = EVERY_SECONDS):
        self._emit, self._active, self._every = emit, active, every_seconds
        self._joules = 0.0
        self._seconds = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)

    def energy(self) -> Energy | None:
        """Power times time; None where the power was never read."""
        if not self._seconds:
            return None
        source = f"nvidia-smi power.draw every {self._every:g} s, the whole GPU"
        return Energy(joules=round(self._joules, 1), seconds=round(self._seconds, 1), source=source)

    def __enter__(self) -> Self:
        if self._active:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self._every):
            reading = read_gpu()
            if reading is None:
                return
            now = time.monotonic()
            if reading.watts is not None:
                self._joules += reading.watts * (now - last)
                self._seconds += now - last
            last = now
            try:
                self._emit(reading)
            except OSError:  # a full disk is for the run itself to meet
                return
