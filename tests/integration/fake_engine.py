"""Written into a folder on PYTHONPATH as sitecustomize.py: every worker then finds this engine in place of the real
one.

What it does is said by the run's `model`: quick, slow, deaf (never looks at a stop), silent (tells of its first step
only and writes checkpoints for ever), or the name of a way to fail."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any


def train(config: Any, folder: Path, emit: Any, should_stop: Any, *_: Any) -> str:
    from qlora_demo.core.cancellation import DownloadStopped
    from qlora_demo.core.errors import DataError
    from qlora_demo.core.records import Evaluation, Phase, Step

    assert "torch" not in sys.modules, "the worker itself must not need torch"
    emit(Phase("train", "first epoch", 0.0, steps=config.max_steps))
    failures = {
        "user": DataError("The file holds one class only; give reviews of at least two."),
        "bug": KeyError("logits"),
        "memory": MemoryError(),
        "cpu-memory": RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        "cuda-memory": type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"),
        "disk": OSError(28, "No space left on device"),
        "exit": SystemExit(3),
        "download": DownloadStopped("Stopped."),
    }
    print("noise on stdout")
    if config.model in failures:
        raise failures[config.model]
    for step in range(1, config.max_steps + 1):
        if config.model != "deaf" and should_stop():
            return "stopped"
        emit(Step(step, step / 10, float("nan") if step == 2 else 1 / step, 1e-3, None, 10.0, 100.0, 1024))
        while config.model == "silent":
            (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True, exist_ok=True)
            (folder / "checkpoints" / "checkpoint-1" / "weights").write_bytes(b"0")
        time.sleep(0.001 if config.model == "quick" else 0.1)
    emit(Evaluation(0.5, 0.9, 0.8, 0.1, "test", step=config.max_steps))
    (folder / "report.json").write_text(
        '{"final": {"test": {"accuracy": 0.9, "loss": 0.5, "macro_f1": 0.8, "mae_stars": 0.1}}}'
    )
    return "done"


for name, members in {
    "qlora_demo.engine.train.run": {"train": train},
    "qlora_demo.hub.card": {"write_card": None},
}.items():
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(members)
