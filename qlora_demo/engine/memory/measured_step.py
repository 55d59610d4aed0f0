"""What a process really takes: peaks from the system, and training steps measured in a fresh process beside their
prediction.

`python -m qlora_demo.engine.probe` is that process: a request on standard input, JSON on standard output. Importing
this module loads no heavy library."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.cancellation import DownloadStopped
from ...core.errors import DeviceError
from ...core.malloc import with_compact_heap
from ...core.records import Budget, BudgetReading, ProcessReading

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM_TOKENS = 8
ASK_SECONDS = 1  # between two looks for a stop


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
    found = resident()
    if "VmHWM" in found:
        return found["VmHWM"]
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Hands memory that is free but kept by the C library back to the system, so that what is resident is in use (glibc
    only).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Sampler:
    """Samples resident memory every few milliseconds in a thread; the peaks of each kind are in `peaks`."""

    def __init__(self, seconds: float = 0.003):
        self.peaks: dict[str, int] = {}
        self._seconds, self._done = seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._seconds):
            for name, count in resident().items():
                self.peaks[name] = max(self.peaks.get(name, 0), count)


class Watch:
    """What this process takes while a model is loaded and transformed inside the `with` block; `reading` once it is
    over.
    """

    def __init__(self, kind: str):
        self._kind, self._sampler = kind, Sampler()
        self._before = self._held = 0

    def __enter__(self) -> Watch:
        give_back()
        self._before, self._before_anonymous = peak_now(self._kind), resident().get("RssAnon")
        self._sampler.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.__exit__()
        self._peak = _highest(self._kind, self._sampler)
        give_back()
        self._held = peak_now(self._kind)

    def reading(self, stage: str) -> ProcessReading:
        on_cpu = self._kind == "cpu"
        anonymous = self._sampler.peaks.get("RssAnon") if on_cpu else None
        before = self._before_anonymous if on_cpu else None
        return ProcessReading(
            stage, self._before, self._peak, self._held, before, anonymous, None if on_cpu else _reserved_bytes()
        )


def measure_budget(
    model: str,
    labels: int,
    *,
    batch_size: int,
    length: int,
    should_stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> tuple[Budget, BudgetReading]:
    """Two training steps on a batch of `batch_size` x `length` in a fresh process: predicted there as a run does it,
    then measured.

    Two, since only the second meets the optimizer's states and the gaps that the first left behind. Settings as
    `predict_budget`'s, and `revision`. Raises DeviceError where the process dies, mostly for want of memory, and
    DownloadStopped when a stop was asked for."""
    process = subprocess.Popen(
        [sys.executable, "-m", "qlora_demo.engine.memory.measured_step"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=with_compact_heap(os.environ),
        cwd=Path(__file__).resolve().parents[3],
    )
    request: str | None = json.dumps(
        {"model": model, "labels": labels, "batch_size": batch_size, "length": length, **settings}
    )
    while True:
        try:
            answer, complaint = process.communicate(request, timeout=ASK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            request = None  # it is on its way
            if should_stop():
                process.kill()
                process.communicate()
                raise DownloadStopped("The measurement was stopped.") from None
    if process.returncode:
        last = (complaint.strip().splitlines() or [f"signal {-process.returncode}"])[-1]
        raise DeviceError(
            f"The measurement of a training step ended early ({last[:200]}); take a smaller batch, length or model."
        )
    found = json.loads(answer.splitlines()[-1])
    return Budget(**found["budget"]), BudgetReading(**found["reading"])


def step(request: Mapping[str, Any]) -> tuple[Budget, BudgetReading]:
    """Load as a training does, predict, then two steps on made-up tokens; made for a fresh process."""
    import torch

    from ..models import modeling, sources
    from ..models.device import choose_device
    from ..train.batches import loss_over
    from ..train.trainer import OPTIMIZERS
    from .training_step import predict_budget

    settings: dict[str, Any] = {
        "precision": "nf4-dq",
        "rank": 16,
        "targets": "all-linear",
        "gradient_checkpointing": False,
        "optimizer": "adamw_torch_fused",
        **request,
    }
    device = choose_device()
    source = sources.resolve(settings["model"], settings.pop("revision", ""), download=False)
    give_back()
    libraries = peak_now(device.kind)
    reset_peak(device.kind)
    with Sampler() as watch:
        base = modeling.load_base(
            source, [f"{i + 1}" for i in range(settings["labels"])], settings["precision"], device
        )
        model = modeling.attach_lora(base, rank=settings["rank"], alpha=32, dropout=0, targets=settings["targets"])
    loading = _highest(device.kind, watch)
    give_back()
    loaded = peak_now(device.kind)
    if settings["gradient_checkpointing"]:
        model.enable_input_require_grads()
        base.model.activation_checkpointing_enable()
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = make_optimizer(OPTIMIZERS.get(settings["optimizer"], settings["optimizer"]), trained)
    loss = loss_over(settings["labels"], 0, False)
    model.train()

    def run(batch: int, length: int, update: bool) -> None:
        ids = torch.randint(5, base.model.config.vocab_size, (batch, length), device=device.kind)
        mask = torch.ones_like(ids)
        mask[:, -1] = (torch.arange(batch) != batch - 1).long()  # one review a token shorter, as in any real batch
        loss(
            model(input_ids=ids, attention_mask=mask), torch.zeros(batch, dtype=torch.long, device=device.kind)
        ).backward()
        if update:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        optimizer.zero_grad()

    # The first pass maps the code of the matrix libraries and casts biases for good: no part of what a batch takes.
    run(2, WARM_TOKENS, False)
    began = time.monotonic()
    budget = predict_budget(
        source,
        kind=device.kind,
        compute_dtype=device.compute_dtype,
        plan=base.plan,
        try_allocator=True,
        **{name: value for name, value in settings.items() if name != "model"},
    )
    seconds = time.monotonic() - began
    give_back()
    standing = peak_now(device.kind)
    reset_peak(device.kind)
    with Sampler() as watch:
        for _ in range(2):
            began = time.monotonic()
            run(settings["batch_size"], settings["length"], True)
            if device.kind == "cuda":
                torch.cuda.synchronize()
            step_seconds = time.monotonic() - began
    peak = _highest(device.kind, watch)
    reserved = int(torch.cuda.max_memory_reserved()) if device.kind == "cuda" else None
    anonymous = watch.peaks.get("RssAnon") if device.kind == "cpu" else None
    return budget, BudgetReading(
        libraries, loading, loaded, standing, peak, anonymous, reserved, round(step_seconds, 3), round(seconds, 3)
    )


def peak_now(kind: str) -> int:
    """What is held now, in the measure that `peak_bytes` uses."""
    reset_peak(kind)
    return resident().get("VmRSS", 0) if kind == "cpu" and resident() else peak_bytes(kind)


def _highest(kind: str, sampler: Sampler) -> int:
    """The peak since it was reset; by the samples too, where the system's own cannot be reset."""
    return max(peak_bytes(kind), sampler.peaks.get("VmRSS", 0) if kind == "cpu" else 0)


def _reserved_bytes() -> int:
    import torch

    return int(torch.cuda.memory_reserved())


def make_optimizer(name: str, parameters: list[Any]) -> Any:
    """The optimizer the Trainer would make of that name."""
    import torch
    from transformers import TrainingArguments
    from transformers.trainer import Trainer

    kind, arguments = Trainer.get_optimizer_cls_and_kwargs(
        TrainingArguments(output_dir="unused", optim=name, report_to="none", use_cpu=not torch.cuda.is_available())
    )
    return kind(parameters, **arguments)


if __name__ == "__main__":
    budget, reading = step(json.load(sys.stdin))
    print(json.dumps({"budget": asdict(budget), "reading": asdict(reading)}))
