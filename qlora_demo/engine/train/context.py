"""What the parts of one training run share: settings, data and model, and how they report and evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel

from ...core.cancellation import Call, ShouldStop
from ...core.config import RunConfig
from ...core.records import Evaluation, Event, Notice, Probe
from ...core.run_report import Metrics
from ..classify.metrics import Floats, compute_metrics, softmax
from ..data.dataset import DataSet
from ..models import modeling
from ..models.device import Device
from .batches import Tokens
from .memory_limit import MemoryLimit

Emit = Callable[[Event], None]


@dataclass
class Run:
    """One run, once data and base are loaded. Logits are (n, k), in the order of a split's reviews."""

    config: RunConfig
    folder: Path
    device: Device
    data: DataSet
    base: modeling.Base
    max_length: int
    train_set: Tokens
    limit: MemoryLimit
    emit: Emit
    should_stop: ShouldStop
    call: Call
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Emits what makes the result doubtful, and keeps it for the report."""
        self.warnings.append(sentence)
        self.emit(Notice(sentence))

    def evaluate(self, model: PeftModel, split: str) -> tuple[Floats, Metrics]:
        """Logits and metrics of a split by the very function that classifies, so that a report and `evaluate` agree."""
        reviews, began = self.data.splits[split], time.monotonic()
        logits = modeling.forward(model, self.base.tokenizer, reviews.texts, self.max_length).numpy()
        seconds = time.monotonic() - began
        return logits, compute_metrics(reviews.labels, logits, self.data.labels, self.data.ordinal, seconds)

    def emit_evaluation(self, step: int, split: str, metrics: Metrics) -> None:
        """The metrics of a split after `step` steps."""
        names = ("loss", "accuracy", "macro_f1", "mae_stars")
        self.emit(Evaluation(step=step, split=split, **{name: getattr(metrics, name) for name in names}))

    def probe(self, model: PeftModel, step: int) -> None:
        """Scores the pinned reviews."""
        pinned = self.config.pinned
        if pinned:
            shares = softmax(modeling.forward(model, self.base.tokenizer, pinned, self.max_length).numpy())
            for text, share in zip(pinned, shares.tolist(), strict=True):
                self.emit(Probe(step, text, dict(zip(self.data.labels, share, strict=True))))
