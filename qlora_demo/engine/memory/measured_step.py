"""What a process really takes: peaks from the system, and training steps measured in a fresh process beside their
prediction.

Importing this module loads no heavy library."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from ...core.cancellation import Call, OnProgress
from ...core.errors import DeviceError, ProcessDied
from ...core.memory_report import Budget, BudgetReading
from .process import Sampler, current_bytes, give_back, reset_peak

WARM_TOKENS = 8


def measure_budget(
    model: str, labels: int, *, batch_size: int, length: int, call: Call, **settings: Any
) -> tuple[Budget, BudgetReading]:
    """Two training steps on a batch of `batch_size` x `length` in the fresh process of `call`: predicted there as a run
    does it, then measured.

    Two, since only the second meets the optimizer's states and the gaps that the first left behind. Settings as
    `predict_budget`'s, and `revision`. Raises DeviceError where the process dies, mostly for want of memory, and
    DownloadStopped when a stop was asked for."""
    request = {"model": model, "labels": labels, "batch_size": batch_size, "length": length, **settings}
    try:
        answer = call(step, request)
    except ProcessDied as error:
        raise DeviceError(
            f"The measurement of a training step ended early ({error}); take a smaller batch, length or model."
        ) from None
    return Budget(**answer["budget"]), BudgetReading(**answer["reading"])


def step(request: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    """Load as a training does, predict, then two steps on made-up tokens; made for a fresh process."""
    import torch

    from ..models import modeling, sources
    from ..models.blueprint import read_blueprint
    from ..models.device import choose_device
    from .optimizers import make_optimizer
    from .training_step import predict_budget, step_loss

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
    labels = settings.pop("labels")
    give_back()
    libraries = current_bytes(device.kind)
    reset_peak(device.kind)
    with Sampler() as watch:
        base = modeling.load_base(source, [f"{i + 1}" for i in range(labels)], settings["precision"], device)
        model = modeling.attach_lora(base, rank=settings["rank"], alpha=32, dropout=0, targets=settings["targets"])
    loading = watch.highest_bytes(device.kind)
    give_back()
    loaded = current_bytes(device.kind)
    if settings["gradient_checkpointing"]:
        model.enable_input_require_grads()
        base.model.activation_checkpointing_enable()
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = make_optimizer(settings["optimizer"], trained)
    model.train()

    def run(batch: int, length: int, update: bool) -> None:
        ids = torch.randint(5, base.model.config.vocab_size, (batch, length), device=device.kind)
        mask = torch.ones_like(ids)
        mask[:, -1] = (torch.arange(batch) != batch - 1).long()  # one review a token shorter, as in any real batch
        step_loss(model(input_ids=ids, attention_mask=mask).logits).backward()
        if update:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        optimizer.zero_grad()

    # The first pass maps the code of the matrix libraries and casts biases for good: no part of what a batch takes.
    run(2, WARM_TOKENS, False)
    began = time.monotonic()
    budget = predict_budget(
        read_blueprint(source, labels),
        kind=device.kind,
        compute_dtype=device.compute_dtype,
        try_allocator=True,
        **{name: value for name, value in settings.items() if name != "model"},
    )
    seconds = time.monotonic() - began
    give_back()
    standing = current_bytes(device.kind)
    reset_peak(device.kind)
    with Sampler() as watch:
        for _ in range(2):
            began = time.monotonic()
            run(settings["batch_size"], settings["length"], True)
            if device.kind == "cuda":
                torch.cuda.synchronize()
            step_seconds = time.monotonic() - began
    peak = watch.highest_bytes(device.kind)
    reserved = int(torch.cuda.max_memory_reserved()) if device.kind == "cuda" else None
    anonymous = watch.peaks.get("RssAnon") if device.kind == "cpu" else None
    reading = BudgetReading(
        libraries, loading, loaded, standing, peak, anonymous, reserved, round(step_seconds, 3), round(seconds, 3)
    )
    return {"budget": asdict(budget), "reading": asdict(reading)}
