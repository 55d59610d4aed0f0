"""Which device and compute dtype to use, and why, in words; and how much memory there is.

Knows nothing of models. Memory limits of containers (cgroup v1 and v2, a Space's MEMORY) count before the machine's
own."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil
import torch

from ...core.run_report import Environment

Kind = Literal["cuda", "cpu"]
CGROUPS = Path("/sys/fs/cgroup")
_HALF_FLAGS = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True)
class Device:
    """The device of this process. `reason` is one sentence; `memory_bytes` and `free_bytes` respect container
    limits.
    """

    kind: Kind
    name: str
    compute_dtype: Literal["bfloat16", "float16", "float32"]
    reason: str
    memory_bytes: int
    free_bytes: int


def choose_device(kind: Kind | None = None) -> Device:
    """The first CUDA GPU if there is one, else the CPU; or the `kind` asked for."""
    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(0) if kind == "cuda" else _cpu_name()
    dtype, why = choose_dtype(kind)
    place = (
        f"Running on the GPU ({name})"
        if kind == "cuda"
        else f"No CUDA GPU: running on CPU ({name}, {_cores()} threads)"
    )
    return Device(kind, name, dtype, f"{place}; {why}.", total_memory_bytes(kind), free_memory_bytes(kind))


def choose_dtype(kind: Kind) -> tuple[Literal["bfloat16", "float16", "float32"], str]:
    """The dtype that matrices are multiplied in, and the reason.

    On CUDA `is_bf16_supported` counts emulation by default, which is slow on a T4: it is ruled out here.
    """
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "computing in bfloat16, which this GPU does natively"
        return "float16", "computing in float16, since this GPU has no native bfloat16"
    if cpu_multiplies(torch.bfloat16):
        return "bfloat16", "computing in bfloat16, which this processor does natively"
    return "float32", "computing in float32, since this processor has no native bfloat16"


def cpu_multiplies(dtype: torch.dtype) -> bool:
    """Whether the processor multiplies numbers of `dtype` natively: BF16 by AVX512-BF16, AMX-BF16 or Arm's BF16; FP16
    likewise.
    """
    if dtype not in _HALF_FLAGS:
        return True
    try:
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(flag)) for flag in _HALF_FLAGS[dtype])
    except (AttributeError, RuntimeError):  # torch before 2.10
        return bool(re.search(rf"\b({'|'.join(_HALF_FLAGS[dtype])})\b", _read(Path("/proc/cpuinfo"))))


def total_memory_bytes(kind: Kind = "cpu") -> int:
    """Memory of the device in bytes: the GPU's, or the machine's cut to the container's limit."""
    if kind == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    limits = [limit for limit, _ in _cgroup_memory()] + [_space_memory()]
    return min([psutil.virtual_memory().total] + [limit for limit in limits if limit])


def free_memory_bytes(kind: Kind = "cpu") -> int:
    """Memory that can still be had, in bytes. File cache counts as free: the system gives it back."""
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(0)[0])
    free = [psutil.virtual_memory().available] + [limit - used for limit, used in _cgroup_memory()]
    if limit := _space_memory():
        free.append(limit - process_memory_bytes())
    return max(0, min(free))


def process_memory_bytes(kind: Kind = "cpu") -> int:
    """What this process holds, in bytes: allocated by torch on the GPU, resident on the CPU."""
    if kind == "cuda":
        return int(torch.cuda.memory_allocated(0))
    return int(psutil.Process().memory_info().rss)


def environment(device: Device) -> Environment:
    """Where a run ran: device, versions; no names, paths or variables of the machine."""
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
    return Environment(
        device=device.kind,
        device_name=device.name,
        compute_dtype=device.compute_dtype,
        reason=device.reason,
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        platform=platform.system(),
        versions={name: version(name) for name in packages},
    )


def _cgroup_memory(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> list[tuple[int, int]]:
    """(limit, used) in bytes of each cgroup above this process that has a limit; used is without reclaimable file
    cache.
    """
    limits = []
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            base, cache_key = root, "inactive_file"
            limit_name, used_name = "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, cache_key = root / "memory", "total_inactive_file"
            limit_name, used_name = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.strip("/")
        # A container often sees its own group at the mount's root, under another path than /proc names.
        for group in dict.fromkeys([folder, *folder.parents, base]):
            if not group.is_relative_to(base):
                continue
            limit, used = _read(group / limit_name).strip(), _read(group / used_name).strip()
            if limit.isdigit() and int(limit) < NO_LIMIT and used.isdigit():
                cache = re.search(rf"^{cache_key} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
                limits.append((int(limit), max(0, int(used) - (int(cache[1]) if cache else 0))))
    return limits


def _space_memory() -> int:
    """The limit in bytes that a Hugging Face Space states in MEMORY (such as 16Gi); 0 elsewhere."""
    match = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", os.environ.get("MEMORY", ""))
        if os.environ.get("SPACE_ID")
        else None
    )
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")) if match else 0


def _cpu_name() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine() or "CPU"


def _cores() -> int:
    return torch.get_num_threads()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
