"""The choice of device and dtype, and the limits of containers."""

import psutil
import pytest
import torch

from qlora_demo.engine.models import device
from qlora_demo.engine.models.device import (
    _cgroup_memory,
    choose_device,
    choose_dtype,
    cpu_multiplies,
    free_memory_bytes,
    process_memory_bytes,
    total_memory_bytes,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("lines", "files", "limits"),
    [
        (  # version 2: found in a parent, and the cache is not counted
            "0::/pod/app",
            {
                **{"pod/memory.max": str(4 * GIB), "pod/memory.current": str(3 * GIB)},
                "pod/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\nactive_file 0\n",
                **{"pod/app/memory.max": "max", "pod/app/memory.current": "5"},
            },
            [(4 * GIB, GIB)],
        ),
        (  # version 1: found at the mount's root
            "4:memory:/docker/0123\n3:cpu:/docker/0123",
            {
                **{"memory/memory.limit_in_bytes": str(2 * GIB), "memory/memory.usage_in_bytes": str(GIB)},
                "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
            },
            [(2 * GIB, GIB // 2)],
        ),
        (  # version 1 without a limit
            "4:memory:/",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"},
            [],
        ),
    ],
)
def test_limits_of_control_groups(tmp_path, lines, files, limits):
    (tmp_path / "cgroup").write_text(lines + "\n")
    for name, content in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert _cgroup_memory(tmp_path / "fs", tmp_path / "cgroup") == limits


def test_the_tightest_limit_wins(monkeypatch):
    monkeypatch.setattr(device, "_cgroup_memory", lambda: [(3 * GIB, GIB), (2 * GIB, GIB)])
    assert total_memory_bytes() == 2 * GIB
    assert free_memory_bytes() <= GIB
    monkeypatch.setattr(device, "_cgroup_memory", lambda: [(GIB, 2 * GIB)])
    assert free_memory_bytes() == 0


@pytest.mark.parametrize(
    ("stated", "expected"), [("16Gi", 16 * GIB), ("512Mi", 512 * 1024**2), ("15.5G", 31 * GIB // 2), ("lots", 0)]
)
def test_a_space_states_its_memory(monkeypatch, stated, expected):
    monkeypatch.setenv("MEMORY", stated)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert device._space_memory() == 0, "MEMORY means something only on a Space"
    monkeypatch.setenv("SPACE_ID", "user/space")
    assert device._space_memory() == expected


def test_memory_without_limits_is_the_machines(monkeypatch):
    monkeypatch.setattr(device, "_cgroup_memory", list)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert total_memory_bytes() == psutil.virtual_memory().total
    assert 0 < process_memory_bytes() < total_memory_bytes()


def test_emulated_bfloat16_is_not_chosen_on_cuda(monkeypatch):
    """A T4 says yes by default, because torch emulates it there."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_dtype("cuda")[0] == "float16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert choose_dtype("cuda")[0] == "bfloat16"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "avx2": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_the_processor_decides_on_a_cpu(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    dtype, reason = choose_dtype("cpu")
    assert dtype == expected
    assert expected in reason


def test_each_half_precision_has_its_own_instructions(monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "avx512_fp16": False}, raising=False
    )
    assert cpu_multiplies(torch.bfloat16) and not cpu_multiplies(torch.float16) and cpu_multiplies(torch.float32)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr("qlora_demo.engine.models.device._read", lambda path: "flags : avx2 avx512_fp16 bf16x")
    assert cpu_multiplies(torch.float16) and not cpu_multiplies(torch.bfloat16)


def test_the_reason_is_one_sentence_with_device_and_dtype(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = choose_device()
    assert chosen.kind == "cpu"
    assert chosen.reason.endswith(".")
    assert chosen.compute_dtype in chosen.reason
    assert chosen.name in chosen.reason
    assert 0 < chosen.free_bytes <= chosen.memory_bytes
