"""A run while it trains: a meter that counts, and the Trainer's callback that turns what happens into events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...core.errors import TrainingError
from ...core.format import duration
from ...core.records import Evaluation, Phase, Step
from ..memory import process
from ..models.device import Device, process_memory_bytes
from .context import Run
from .warnings import check_losses


@dataclass
class Meter:
    """Counts what steps are fed, the memory of the steps, and the time spent in them (evaluation not counted).

    standing_bytes: before the first step. peak_bytes: the most during a step, which was `peak_step`.
    """

    device: Device
    reviews: int = 0
    tokens: int | torch.Tensor = 0
    standing_bytes: int = 0
    peak_bytes: int = 0
    peak_step: int | None = None
    began: float = field(default_factory=time.monotonic)
    _keeps_peak: bool = False

    def count(self, attention_mask: torch.Tensor) -> None:
        """A batch (n, length), 1 where a token is; added up where it lies, so that no step waits for a GPU."""
        self.reviews += len(attention_mask)
        self.tokens = self.tokens + attention_mask.sum()

    def rates(self) -> tuple[float, float]:
        """(reviews, non-padding tokens) per second since the last call."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        rates = self.reviews / seconds, int(self.tokens) / seconds
        self.reset()
        return rates

    def reset(self) -> None:
        self.reviews = self.tokens = 0
        self.began = time.monotonic()

    def memory(self) -> int:
        return process_memory_bytes(self.device.kind)

    def begin_steps(self) -> None:
        """Take what is held before the first step; what is free but kept by the C library is given back first."""
        process.give_back()
        self.standing_bytes = self.memory()
        self.begin_peak()

    def begin_peak(self) -> None:
        """Forget the peak of what was not a step. Where the system keeps none, steps are sampled at their end."""
        self._keeps_peak = process.reset_peak(self.device.kind)

    def end_step(self, step: int) -> None:
        peak = process.peak_bytes(self.device.kind) if self._keeps_peak else self.memory()
        if peak > self.peak_bytes:
            self.peak_bytes, self.peak_step = peak, step


class Events(TrainerCallback):
    """Turns what the Trainer does into events, asks whether to stop, and ends a run whose loss is no number.

    `on_evaluated(step)` is called after each evaluation."""

    def __init__(self, run: Run, meter: Meter, on_evaluated: Callable[[int], None]):
        self._run, self._meter, self._on_evaluated = run, meter, on_evaluated
        self.stopped = self._warned = False
        self._began, self._began_at = 0.0, 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began, self._began_at = time.monotonic(), state.global_step  # a resumed run begins in the middle
        self._meter.reset()
        self._meter.begin_steps()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._stop_if_asked(control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._stop_if_asked(control)
        self._meter.end_step(state.global_step)
        if state.global_step >= state.max_steps:  # the last step too is a candidate for the best checkpoint
            control.should_evaluate = control.should_save = True
        if self.stopped:
            control.should_save = True
        # A resumed run's next loss is a mean from its checkpoint on: so must be that of a run that goes on.
        control.should_log = control.should_log or control.should_save

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        self._check("loss", logs["loss"], state.global_step)
        reviews, tokens = self._meter.rates()
        norm = logs.get("grad_norm")
        self._run.emit(
            Step(
                step=state.global_step,
                epoch=float(logs.get("epoch", 0)),
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                grad_norm=float(norm) if norm is not None and math.isfinite(norm) else None,
                reviews_per_second=reviews,
                tokens_per_second=tokens,
                memory_bytes=self._meter.memory(),
            )
        )
        per_step = (time.monotonic() - self._began) / max(state.global_step - self._began_at, 1)
        left = per_step * (state.max_steps - state.global_step)
        detail = f"step {state.global_step} of {state.max_steps}, about {duration(left)} left"
        share = state.global_step / max(state.max_steps, 1)
        self._run.emit(Phase("training", detail, share, seconds_left=round(left, 1)))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        values = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
        self._check("validation loss", values["loss"], state.global_step)
        named = {name: values.get(name) for name in ("loss", "accuracy", "macro_f1", "mae_stars")}
        self._run.emit(Evaluation(step=state.global_step, split="validation", **named))  # type: ignore[arg-type]
        self._on_evaluated(state.global_step)
        if not self._warned and 2 * state.global_step >= state.max_steps:
            losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
            if sentence := check_losses(losses, self._run.config.learning_rate):
                self._warned = True
                self._run.warn(sentence)
        self._meter.reset()  # evaluation's time is not the steps'
        self._meter.begin_peak()

    def _check(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            rate = f"{self._run.config.learning_rate:g}"
            raise TrainingError(
                f"The {what} became {value} at step {step}; lower the learning rate (it is {rate}) and start again."
            )

    def _stop_if_asked(self, control: TrainerControl) -> None:
        if self._run.should_stop():
            self.stopped = control.should_training_stop = True
