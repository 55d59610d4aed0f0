"""How many processors the app may keep busy, by affinity and by a container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qlora_demo.host import environment


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
    ],
)
def test_a_control_groups_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert environment._group_cores(tmp_path) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (16.0, 8), (2.0, 2), (1.5, 1), (0.5, 1)])
def test_a_container_counts_its_own_processors(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(environment, "_group_cores", lambda _: quota)
    monkeypatch.setenv("OMP_NUM_THREADS", "9")  # so that it is put back
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment.usable_cores() == cores
    environment.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == (None if cores == 8 else str(cores))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "3", "what the user has set stays"


@pytest.mark.parametrize(("stated", "cores"), [("2", 2), ("7.5", 7), ("many", 8), ("64", 8)])
def test_a_space_says_how_many_it_has(monkeypatch: pytest.MonkeyPatch, stated: str, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(environment, "_group_cores", lambda _: None)
    monkeypatch.setenv("CPU_CORES", stated)
    assert environment.usable_cores() == 8, "no Space"
    monkeypatch.setenv("SYSTEM", "spaces")
    assert environment.usable_cores() == cores
