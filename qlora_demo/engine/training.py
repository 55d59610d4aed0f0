"""One training run: reviews and base in, adapter and report out.

The Trainer trains; one callback turns what happens into events. Knows nothing of processes, states or pages:
it is handed a folder, `emit` and `should_stop`.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PrinterCallback, Trainer, TrainerState, TrainingArguments, set_seed

from ..config import RunConfig
from ..errors import TrainingError
from ..records import Budget, Evaluation, MemoryReading, Metrics, Notice, Phase, Resumed
from . import budget, memory, modeling, reload, sources
from . import data as reviews_of
from .batches import LikeLengths, Tokens, collator, loss_over
from .device import Device, choose_device, free_memory_bytes, process_memory_bytes
from .evaluation import baselines, judge
from .progress import Emit, Events, Meter

OPTIMIZERS = {"adamw_8bit": "adamw_bnb_8bit"}  # the Trainer's name where ours is shorter
PROOF_TEXTS = 16
CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def train(
    config: RunConfig,
    folder: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    write_card: Callable[[dict[str, Any], str], str] | None = None,
) -> str:
    """Runs `config` in `folder`; returns "done" or "stopped" (then adapter/ and report.json are there).

    `write_card(report, base name)` gives the adapter's model card.

    A run stopped before its first step has neither. Where `folder` holds a checkpoint of the run, it goes on from there: the same
    optimizer, schedule, order of reviews and step count, and so the same losses as if it had never stopped.

    Raises DemoErrors for what the user can mend; no adapter is left behind by a run that fails.
    """
    began = time.monotonic()
    device = choose_device()
    emit(Phase("preparing", device.reason))
    data = _load_data(config, emit, should_stop)
    source = sources.resolve(
        config.model, config.revision, should_stop=should_stop, on_progress=lambda text, done: emit(Phase("fetching the model", text, done))
    )
    emit(Phase("loading the model", f"{config.model} at {config.precision}", labels=len(data.labels)))
    set_seed(config.seed)
    base = modeling.load_base(source, data.labels, config.precision, device)
    max_length = modeling.usable_length(base.tokenizer, base.model.config, config.max_length)
    model = modeling.attach_lora(base, rank=config.rank, alpha=config.alpha, dropout=config.dropout, targets=config.targets)
    ledger = memory.weigh(model, "lora")
    meter = Meter(device)
    judge_on = _judge(model, base, data, max_length)
    resumed = last_checkpoint(folder) is not None
    emit(Phase("evaluating the untrained head", "validation and test reviews, before step 1"))
    untrained = {split: judge_on(split) for split in ("validation", "test")}
    for split, metrics in untrained.items():
        if not resumed:  # else it was told when the run began
            emit(_evaluation(0, metrics, split))
    if should_stop():
        emit(Notice("The run was stopped before its first step, so there is no adapter to keep."))
        return "stopped"

    trainer, events = _trainer(config, model, base, data, max_length, folder, meter, emit, should_stop)
    predicted = _predict_memory(config, base, len(data.labels), cast(Tokens, trainer.train_dataset), emit)
    # One of the last step cannot be gone on from; a run that died after it takes the one before.
    checkpoint = last_checkpoint(folder, below=trainer.args.max_steps)
    if resumed:
        emit(Resumed(_step_of(checkpoint) if checkpoint else 0))
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _drop_untold(trainer)
    emit(Phase("evaluating", "the best checkpoint on validation and test reviews"))
    final = {split: judge_on(split) for split in ("validation", "test")}
    for split, metrics in final.items():
        emit(_evaluation(trainer.state.global_step, metrics, split))
    receipt = budget.receipt(predicted, meter.standing_bytes, meter.peak_bytes, meter.peak_step)
    emit(MemoryReading("training_peak", receipt["predicted_peak_bytes"], meter.peak_bytes))

    note = modeling.AdapterNote(
        config.model,
        source.base_name,
        source.revision,
        list(data.labels),
        data.ordinal,
        config.precision,
        device.compute_dtype,
        max_length,
        int(base.tokenizer.pad_token_id or 0),
    )
    draft = folder / "adapter.draft"
    shutil.rmtree(draft, ignore_errors=True)
    modeling.save_adapter(model, base.tokenizer, note, draft)
    trainable, every = modeling.trainable_parameters(model)
    emit(Phase("proving the reload", "the adapter in a fresh process, under another seed"))
    proof = _prove(model, base, data, max_length, draft, config.seed, device)
    emit(Phase("comparing with baselines", "majority, and TF-IDF with logistic regression"))
    report = {
        "base": untrained["test"].to_dict(),
        "final": {split: metrics.to_dict() for split, metrics in final.items()},
        "baselines": {
            name: found.to_dict() for name, found in baselines(data.splits["train"], data.splits["test"], data.labels, data.ordinal).items()
        },
        "memory": {
            "model": ledger.to_dict(),
            "peak_bytes": meter.peak_bytes,
            "peak_is": "allocated on the GPU" if device.kind == "cuda" else "resident",
            **receipt,
        },
        "parameters": {"trainable": trainable, "all": every},
        "reload": proof,
        "training": {
            "steps": trainer.state.global_step,
            "seconds": result.metrics["train_runtime"],
            "loss": last_loss(trainer.state),
            "reviews_per_second": result.metrics["train_samples_per_second"],
            "best_step": _best_step(trainer.state),
            "resumed_at": _step_of(checkpoint) if checkpoint else None,
        },
        "environment": environment(device),
        "data": data.describe(),
        "config": config.to_dict(),
        "seconds": round(time.monotonic() - began, 1),
        "stopped": events.stopped,
        "kept": "the best evaluated checkpoint" if trainer.state.best_model_checkpoint else "the last step",
    }
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    (draft / "report.json").write_text(text)
    if write_card:
        (draft / "README.md").write_text(write_card(report, source.base_name))
    shutil.rmtree(folder / "adapter", ignore_errors=True)  # that of the stop before, where the run was resumed
    draft.rename(folder / "adapter")
    (folder / "report.json.draft").write_text(text)
    (folder / "report.json.draft").rename(folder / "report.json")
    return "stopped" if events.stopped else "done"


def last_checkpoint(folder: Path, below: float = math.inf) -> Path | None:
    """The newest whole checkpoint of the run in `folder`, before step `below`; what a killed process left half-written is passed over."""
    found = sorted((folder / "checkpoints").glob("checkpoint-*"), key=_step_of)
    for checkpoint in reversed([item for item in found if _step_of(item) < below]):
        # The Trainer writes its state last (Trainer._save_checkpoint), so who has it has all.
        if _is_json(checkpoint / "trainer_state.json") and all((checkpoint / name).is_file() for name in CHECKPOINT_FILES):
            return checkpoint
    return None


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return True


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def last_loss(state: TrainerState) -> float | None:
    """The loss of the last logged step, in nats; None before the first."""
    return next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)


def environment(device: Device) -> dict[str, Any]:
    """Where a run ran: device, versions; no names, paths or variables of the machine."""
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
    return {
        "device": device.kind,
        "device_name": device.name,
        "compute_dtype": device.compute_dtype,
        "reason": device.reason,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.system(),
        "versions": {name: version(name) for name in packages},
    }


def _load_data(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> reviews_of.DataSet:
    emit(Phase("loading the reviews", config.data))
    columns = reviews_of.Columns(config.text_column, config.title_column, config.label_column)
    data = reviews_of.load(
        config.data,
        config=config.data_config,
        revision=config.data_revision,
        columns=columns,
        rows=config.rows,
        seed=config.seed,
        on_progress=lambda text, done: emit(Phase("fetching the reviews", text, done)),
        should_stop=should_stop,
    )
    train = data.splits["train"]
    if len(set(train.labels)) < 2:
        raise TrainingError(f"The training reviews have {len(set(train.labels))} different labels; give reviews of at least two.")
    for split in ("validation", "test"):
        if not len(data.splits[split]):
            raise TrainingError(f"There are no {split} reviews ({len(train)} for training); give at least 30 reviews, some of each label.")
    for note in data.notes:
        emit(Notice(note))
    for reason, rows in data.skipped.items():
        emit(Notice(f"{rows:,} rows were left out: {reason}."))
    if len(train) < config.batch_size:
        emit(Notice(f"There are {len(train)} training reviews, fewer than one batch of {config.batch_size}: every step sees all of them."))
    return data


class LikeLengthTrainer(Trainer):
    """The Trainer, its training batches drawn by LikeLengths."""

    def _get_train_sampler(self, train_dataset: Any = None) -> LikeLengths:
        ids = cast(Tokens, train_dataset or self.train_dataset).ids
        return LikeLengths([len(row) for row in ids], self.args.train_batch_size, self.args.seed)


def _trainer(
    config: RunConfig,
    model: PeftModel,
    base: modeling.Base,
    data: reviews_of.DataSet,
    max_length: int,
    folder: Path,
    meter: Meter,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> tuple[Trainer, Events]:
    train_set = Tokens(data.splits["train"], base.tokenizer, max_length)
    per_epoch = max(1, math.ceil(math.ceil(len(train_set) / config.batch_size) / config.accumulation))
    total = config.max_steps or math.ceil(config.epochs * per_epoch)
    emit(Phase("training", f"{total} steps", 0.0, steps=total))
    every = max(1, math.ceil(total / config.evaluations))
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    lower_is_better = config.best_metric in ("loss", "mae_stars")
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        report_to="none",
        seed=config.seed,
        disable_tqdm=True,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        per_device_eval_batch_size=max(32, config.batch_size),
        num_train_epochs=config.epochs,
        max_steps=total,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        optim=OPTIMIZERS.get(config.optimizer, config.optimizer),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=config.best_metric,
        greater_is_better=not lower_is_better,
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=base.device.kind == "cuda",
        use_cpu=base.device.kind == "cpu",
        fp16=base.device.kind == "cuda" and base.device.compute_dtype == "float16",
        activation_checkpointing=config.gradient_checkpointing,
    )
    events = Events(emit, should_stop, meter, config.learning_rate)

    def metrics(found: Any) -> dict[str, float]:
        measured = judge(found.label_ids, found.predictions, data.labels, data.ordinal)
        return {
            "loss": measured.loss,
            "accuracy": measured.accuracy,
            "macro_f1": measured.macro_f1,
            **({"mae_stars": measured.mae_stars} if measured.mae_stars is not None else {}),
        }

    trainer = LikeLengthTrainer(
        model,
        arguments,
        data_collator=collator(base.tokenizer, meter),
        train_dataset=train_set,
        eval_dataset=Tokens(_by_length(data.splits["validation"]), base.tokenizer, max_length),
        compute_metrics=metrics,
        callbacks=[events],
        compute_loss_func=loss_over(len(data.labels), config.label_smoothing, data.ordinal),
    )
    trainer.remove_callback(PrinterCallback)  # our events say it
    return trainer, events


def _predict_memory(config: RunConfig, base: modeling.Base, labels: int, train_set: Tokens, emit: Emit) -> Budget | None:
    """What a step on the longest batch will take. The run does not hang on it: None, and a notice, where it cannot be said."""
    try:
        return budget.predict_run(config, base, labels, min(config.batch_size, len(train_set)), max(map(len, train_set.ids)))
    except Exception as error:  # a family whose steps need real numbers, or a library that changed
        emit(Notice(f"The memory of a step could not be predicted ({str(error).splitlines()[0][:160]}); the run goes on."))
        return None


def _by_length(reviews: reviews_of.Reviews) -> reviews_of.Reviews:
    return reviews.take(sorted(range(len(reviews)), key=lambda i: len(reviews.texts[i])))


def _judge(model: PeftModel, base: modeling.Base, data: reviews_of.DataSet, max_length: int) -> Callable[[str], Metrics]:
    """Metrics on a split by the very function that classifies, so that a report and `evaluate` agree."""

    def judged(split: str) -> Metrics:
        reviews, began = data.splits[split], time.monotonic()
        logits = modeling.forward(model, base.tokenizer, reviews.texts, max_length).numpy()
        return judge(reviews.labels, logits, data.labels, data.ordinal, time.monotonic() - began)

    return judged


def _evaluation(step: int, metrics: Metrics, split: str) -> Evaluation:
    return Evaluation(step, metrics.loss, metrics.accuracy, metrics.macro_f1, metrics.mae_stars, split)  # type: ignore[arg-type]


def _prove(
    model: PeftModel, base: modeling.Base, data: reviews_of.DataSet, max_length: int, draft: Path, seed: int, device: Device
) -> dict[str, float]:
    texts = data.splits["validation"].texts[:PROOF_TEXTS]
    tuned = modeling.forward(model, base.tokenizer, texts, max_length).numpy()
    with modeling.as_base(model, True):
        untrained = modeling.forward(model, base.tokenizer, texts, max_length).numpy()
    if device.kind == "cuda" and free_memory_bytes("cuda") < 2 * process_memory_bytes("cuda"):
        cast(Any, base.model).to("cpu")  # the fresh process needs room for the base
        torch.cuda.empty_cache()
    return reload.prove(draft, texts, tuned, untrained, seed + 1, device.compute_dtype)


def _drop_untold(trainer: Trainer) -> None:
    """Frees optimizer and gradients before evaluation: they are not needed again."""
    trainer.model.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    trainer.optimizer = trainer.lr_scheduler = None


def _best_step(state: TrainerState) -> int | None:
    return _step_of(Path(state.best_model_checkpoint)) if state.best_model_checkpoint else None
