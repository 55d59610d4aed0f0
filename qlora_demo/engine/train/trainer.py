"""transformers' Trainer, set up for one run. Knows how a run is trained, not what becomes of it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, Trainer, TrainingArguments

from ...core.config import RunConfig
from ...core.records import Phase
from ..classify.metrics import compute_metrics
from ..data.dataset import DataSet, Reviews
from ..memory.optimizers import trainer_name
from .batches import LikeLengths, Tokens, collator, loss_over
from .callback import Events, Meter
from .context import Run

# A forward pass keeps no activations: with eight times the reviews it takes less than a training step.
EVALUATION_BATCHES = 8


class LikeLengthTrainer(Trainer):
    """The Trainer, its training batches drawn by LikeLengths, and counted by a meter."""

    def __init__(self, *args: Any, meter: Meter, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._meter = meter

    def _get_train_sampler(self, train_dataset: Any = None) -> LikeLengths:
        ids = cast(Tokens, train_dataset or self.train_dataset).ids
        return LikeLengths([len(row) for row in ids], self.args.train_batch_size, self.args.seed)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        # Here and not where batches are made, which is done ahead: an epoch's last step would have none, its first two.
        self._meter.count(inputs["attention_mask"])
        return super().training_step(model, inputs, *args, **kwargs)


def build_trainer(run: Run, model: PeftModel, meter: Meter) -> tuple[Trainer, Events]:
    """The Trainer of a run, and its callback that emits the events."""
    config, data, base = run.config, run.data, run.base
    per_epoch = max(1, math.ceil(math.ceil(len(run.train_set) / config.batch_size) / config.accumulation))
    total = config.max_steps or math.ceil(config.epochs * per_epoch)
    run.emit(Phase("training", f"{total} steps", 0.0, steps=total))
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    events = Events(run, meter, partial(run.probe, model))
    patience = [EarlyStoppingCallback(early_stopping_patience=config.patience)] if config.patience else []
    trainer = LikeLengthTrainer(
        model,
        _arguments(run, total),
        meter=meter,
        data_collator=collator(base.tokenizer),
        train_dataset=run.train_set,
        eval_dataset=Tokens(_by_length(data.splits["validation"]), base.tokenizer, run.max_length),
        compute_metrics=partial(_metrics, data),
        callbacks=[events, *patience],
        compute_loss_func=loss_over(
            len(data.labels),
            config.label_smoothing,
            data.ordinal,
            _weights(config, data.splits["train"].labels, len(data.labels)),
        ),
    )
    trainer.remove_callback(PrinterCallback)  # our events say it
    return trainer, events


def _arguments(run: Run, total: int) -> TrainingArguments:
    config, device = run.config, run.device
    every = max(1, math.ceil(total / config.evaluations))
    return TrainingArguments(
        output_dir=str(run.folder / "checkpoints"),
        report_to="none",
        seed=config.seed,
        disable_tqdm=True,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        per_device_eval_batch_size=max(config.batch_size, min(32, EVALUATION_BATCHES * config.batch_size)),
        num_train_epochs=config.epochs,
        max_steps=total,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        optim=trainer_name(config.optimizer),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=config.best_metric,
        greater_is_better=config.best_metric not in ("loss", "mae_stars"),
        restore_callback_states_from_checkpoint=True,  # a resumed run's patience goes on, too
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.kind == "cuda",
        use_cpu=device.kind == "cpu",
        fp16=device.kind == "cuda" and device.compute_dtype == "float16",
        activation_checkpointing=config.gradient_checkpointing,
    )


def _metrics(data: DataSet, prediction: EvalPrediction) -> dict[str, float]:
    # T5 hands its encoder's states out behind the logits.
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    metrics = compute_metrics(cast(Any, prediction.label_ids), logits, data.labels, data.ordinal)
    values = {name: getattr(metrics, name) for name in ("loss", "accuracy", "macro_f1", "mae_stars")}
    return {name: value for name, value in values.items() if value is not None}


def _weights(config: RunConfig, labels: list[int], count: int) -> torch.Tensor | None:
    """What a review counts by its label; "balanced": rows / (labels x rows of the label), as scikit-learn's
    compute_class_weight.

    Their mean over the training reviews is 1, so that the loss stays comparable. A label without rows has no review to
    weigh."""
    if config.class_weights == "none":
        return None
    rows = np.bincount(labels, minlength=count)
    return torch.tensor(len(labels) / ((rows > 0).sum() * np.maximum(rows, 1)), dtype=torch.float32)


def _by_length(reviews: Reviews) -> Reviews:
    return reviews.take(sorted(range(len(reviews)), key=lambda i: len(reviews.texts[i])))
