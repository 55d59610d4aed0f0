"""Facts about this machine: what the page says of it, what `doctor` prints, and whether work fits beside a job."""

from __future__ import annotations

import platform
import shutil
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..core.presets import choose_preset
from ..core.records import Machine
from ..core.safety import BESIDE_SHARE
from ..engine import importing
from ..host.environment import on_zero_gpu, storage_words, zero_gpu_words
from ..host.host import Host

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "huggingface_hub", "gradio")


@dataclass(frozen=True)
class Facts:
    """What a machine can do. bitsandbytes: whether it works; hub_user: who is logged in; versions: None = absent."""

    device: str
    device_name: str
    device_reason: str
    compute_dtype: str
    bitsandbytes: bool
    hub_reachable: bool
    hub_user: str | None
    free_disk_bytes: int
    memory_bytes: int
    versions: dict[str, str | None]


class MachineService:
    """The facts of one machine; any thread may ask."""

    def __init__(self, host: Host):
        self._host = host
        self._machine: Future[Machine] | None = None
        self._lock = threading.Lock()

    def get(self) -> Machine:
        """Facts about this machine; the first caller finds them out, others wait for it."""
        with self._lock:
            first = self._machine is None
            machine = self._machine = self._machine or Future()
        if first:
            try:
                machine.set_result(_examine(self._host.home))
            except BaseException as error:  # handed to whoever asks
                machine.set_exception(error)
        return machine.result()

    def has_room_beside(self, needed_bytes: int) -> bool:
        """Whether work that takes so much need not wait for the device: a small share of a CPU's free memory."""
        if self.get().device != "cpu":
            return False
        from ..engine.models.device import free_memory_bytes

        return needed_bytes * BESIDE_SHARE < free_memory_bytes("cpu")

    def doctor(self) -> Facts:
        """What this machine can do, as `doctor --json` prints it."""
        with importing():
            from ..engine.models import sources
            from ..engine.models.device import choose_device

        device, reachable = choose_device(), sources.hub_reachable()
        return Facts(
            device=device.kind,
            device_name=device.name,
            device_reason=device.reason,
            compute_dtype=device.compute_dtype,
            bitsandbytes=_four_bits_work(device.kind),
            hub_reachable=reachable,
            hub_user=sources.hub_user() if reachable else None,
            free_disk_bytes=_free_disk_bytes(self._host.home),
            memory_bytes=device.memory_bytes,
            versions={"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        )


def _examine(home: Path) -> Machine:
    with importing():  # the page's head waits for the machine, and torch is enough for it
        from ..engine.models import sources
        from ..engine.models.device import choose_device

    # On ZeroGPU there is a GPU inside a call alone; what torch says of one here is not real.
    device = replace(choose_device("cpu"), reason=zero_gpu_words()) if on_zero_gpu() else choose_device()
    gpu_bytes = device.memory_bytes if device.kind == "cuda" else 0
    reachable = sources.hub_reachable()
    preset, reason = choose_preset(gpu_bytes, reachable)
    return Machine(
        device.kind,
        device.name,
        device.reason,
        device.memory_bytes,
        gpu_bytes,
        reachable,
        preset,
        reason,
        storage_words(home),
    )


def _four_bits_work(kind: str) -> bool:
    """Whether bitsandbytes packs a small matrix on the device and brings it back."""
    try:
        import bitsandbytes.functional as functional
        import torch

        weights = torch.randn(64, 64, device=kind)
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        return bool((functional.dequantize_4bit(packed, state) - weights).abs().mean() < 0.2)
    except Exception:  # a broken installation shows itself in any way it likes
        return False


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _free_disk_bytes(folder: Path) -> int:
    """Where runs would be written, which need not exist yet."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
