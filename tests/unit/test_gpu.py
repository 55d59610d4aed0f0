"""The GPU watched while a run trains: nvidia-smi's table, and an energy that a failed reading does not cut short."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qlora_demo.core.records import GpuReading
from qlora_demo.engine.train import gpu


def answer(monkeypatch: pytest.MonkeyPatch, folder: Path, line: str) -> None:
    """An nvidia-smi that prints this line."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{line}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_a_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, tmp_path, "87, 1024, 61, 250.50")
    assert gpu.read_gpu() == GpuReading(0.87, 2**30, 61.0, 250.5)
    answer(monkeypatch, tmp_path, "[N/A], 1024, [Not Supported], [N/A]")
    assert gpu.read_gpu() == GpuReading(None, 2**30, None, None)
    for line in ("", "No devices were found", "1, 2"):
        answer(monkeypatch, tmp_path, line)
        assert gpu.read_gpu() is None
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpu.read_gpu() is None


def test_a_failed_reading_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([GpuReading(1.0, 1, 50.0, 100.0), *[None] * 4, GpuReading(1.0, 1, 50.0, 300.0)])
    monkeypatch.setattr(gpu, "read_gpu", lambda: next(answers, None))
    readings: list[GpuReading] = []
    began = time.monotonic()
    with gpu.GpuWatch(readings.append, active=True, every_seconds=0.05) as watch:
        while len(readings) < 2:
            time.sleep(0.01)
        time.sleep(0.2)  # nvidia-smi answers no more: its last power stands for the rest
    seconds, energy = time.monotonic() - began, watch.energy()
    assert energy is not None and energy.seconds == pytest.approx(seconds, abs=0.1)
    assert pytest.approx(energy.joules, rel=0.4) == 0.05 * 100 + 0.25 * 300 + 0.2 * 300
    assert energy.joules > 300 * (seconds - 0.15) and 0 < energy.share < 1


def test_without_power_there_is_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read_gpu", lambda: GpuReading(1.0, 1, None, None))
    readings: list[GpuReading] = []
    with gpu.GpuWatch(readings.append, active=True, every_seconds=0.02) as watch:
        time.sleep(0.1)
    assert readings and watch.energy() is None
    with gpu.GpuWatch(readings.append, active=False) as watch:
        pass
    assert watch.energy() is None
