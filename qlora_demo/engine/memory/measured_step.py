"""Training steps measured in a fresh process beside their prediction. Importing this module loads no heavy library."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...core.cancellation import Call, OnProgress
from ...core.errors import DeviceError, ProcessDied
from ...core.memory_report import Budget, BudgetReading
from .process import Sampler, current_bytes, give_back

if TYPE_CHECKING:
    from ..models.device import Device
    from ..models.sources import ModelSource

WARM_TOKENS = 8
DEFAULTS = {
    "precision": "nf4-dq",
    "rank": 16,
    "targets": "all-linear",
    "gradient_checkpointing": False,
    "optimizer": "adamw_torch_fused",
}


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
    from ..models import sources
    from ..models.blueprint import read_blueprint
    from ..models.device import choose_device
    from .training_step import predict_budget

    model, labels, revision = request.pop("model"), request.pop("labels"), request.pop("revision", "")
    settings = {**DEFAULTS, **request}
    device = choose_device()
    source = sources.resolve(model, revision, download=False)
    trainer = _Trainer(source, labels, device, settings)
    # The first pass maps the code of the matrix libraries and casts biases for good: no part of what a batch takes.
    trainer.train(2, WARM_TOKENS, update=False)
    began = time.monotonic()
    description = read_blueprint(source, labels)
    budget = predict_budget(
        description, kind=device.kind, compute_dtype=device.compute_dtype, try_allocator=True, **settings
    )
    prediction_seconds = time.monotonic() - began
    reading = trainer.measure(settings["batch_size"], settings["length"], prediction_seconds)
    return {"budget": asdict(budget), "reading": asdict(reading)}


class _Trainer:
    """The model as a run trains it, with what the process took while it was loaded."""

    def __init__(self, source: ModelSource, labels: int, device: Device, settings: Mapping[str, Any]):
        from ..models import modeling
        from .optimizers import make_optimizer

        self._kind = device.kind
        give_back()
        self._libraries = current_bytes(self._kind)
        with Sampler() as sampler:
            names = [f"{i + 1}" for i in range(labels)]
            base = modeling.load_base(source, names, settings["precision"], device)
            lora = {"rank": settings["rank"], "targets": settings["targets"]}
            self._model = modeling.attach_lora(base, alpha=32, dropout=0, **lora)
        self._loading_peak = sampler.highest_bytes(self._kind)
        give_back()
        self._loaded = current_bytes(self._kind)
        if settings["gradient_checkpointing"]:
            self._model.enable_input_require_grads()
            base.model.activation_checkpointing_enable()
        self._vocabulary = base.model.config.vocab_size
        self._trained = [value for value in self._model.parameters() if value.requires_grad]
        self._optimizer = make_optimizer(settings["optimizer"], self._trained)
        self._model.train()

    def train(self, batch: int, length: int, *, update: bool) -> None:
        """One step on made-up tokens; without `update` the weights stay."""
        import torch

        from .training_step import step_loss

        ids = torch.randint(5, self._vocabulary, (batch, length), device=self._kind)
        mask = torch.ones_like(ids)
        mask[:, -1] = (torch.arange(batch) != batch - 1).long()  # one review a token shorter, as in any real batch
        step_loss(self._model(input_ids=ids, attention_mask=mask).logits).backward()
        if update:
            torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
            self._optimizer.step()
        self._optimizer.zero_grad()

    def measure(self, batch: int, length: int, prediction_seconds: float) -> BudgetReading:
        """Two steps, and what they took."""
        import torch

        give_back()
        standing = current_bytes(self._kind)
        with Sampler() as sampler:
            for _ in range(2):
                began = time.monotonic()
                self.train(batch, length, update=True)
                if self._kind == "cuda":
                    torch.cuda.synchronize()
                step_seconds = time.monotonic() - began
        on_gpu = self._kind == "cuda"
        return BudgetReading(
            libraries_bytes=self._libraries,
            loading_peak_bytes=self._loading_peak,
            loaded_bytes=self._loaded,
            standing_bytes=standing,
            peak_bytes=sampler.highest_bytes(self._kind),
            peak_anonymous_bytes=None if on_gpu else sampler.peaks.get("RssAnon"),
            peak_reserved_bytes=int(torch.cuda.max_memory_reserved()) if on_gpu else None,
            step_seconds=round(step_seconds, 3),
            prediction_seconds=round(prediction_seconds, 3),
        )
