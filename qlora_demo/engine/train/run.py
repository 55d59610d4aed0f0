"""One training run: reviews and base in, adapter and report out.

The Trainer trains; callbacks turn what happens into events. Knows nothing of processes, states or pages: it is handed a
folder, `emit` and `should_stop`."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import set_seed

from ...core.cancellation import Call, call_here
from ...core.config import RunConfig
from ...core.errors import DemoError, ModelError, TrainingError, is_out_of_memory
from ...core.format import size
from ...core.memory_report import Budget
from ...core.records import Baseline, Evaluation, MemoryReading, Notice, Phase, Probe, Resumed
from ...core.run_report import (
    DataSummary,
    Environment,
    Metrics,
    Parameters,
    ReloadProof,
    RunMemory,
    RunReport,
    Training,
)
from ...core.safety import PROOF_MARGIN
from ..classify.calibration import calibrate
from ..classify.metrics import Floats, compute_metrics, fit_baselines, softmax, write_answers
from ..data import dataset as reviews_of
from ..memory import ledger as memory
from ..memory import training_step
from ..models import modeling, sources
from ..models.adapters import find_adapter
from ..models.device import Device, choose_device, environment, free_memory_bytes, process_memory_bytes
from . import memory_limit as room
from . import reload_proof
from . import warnings as doubts
from .batches import Tokens
from .callback import Emit, Meter
from .checkpoints import best_step, drop_half_written, last_checkpoint, last_loss, step_of
from .gpu import GpuWatch
from .trainer import build_trainer

PROOF_TEXTS = 16
WriteCard = Callable[[dict[str, Any], str], str]
log = logging.getLogger("qlora_demo.worker")


@dataclass
class Run:
    """What a run works with once reviews and base are there. Logits are (n, k), in the order of a split's reviews."""

    config: RunConfig
    folder: Path
    device: Device
    data: reviews_of.DataSet
    base: modeling.Base
    max_length: int
    train_set: Tokens
    room: room.Room
    emit: Emit
    should_stop: Callable[[], bool]
    call: Call
    doubts: list[str]

    def doubt(self, sentence: str) -> None:
        """Tell what makes the result doubtful, now and in the report."""
        self.doubts.append(sentence)
        self.emit(Notice(sentence))

    def look(self, model: PeftModel, split: str) -> tuple[Floats, Metrics]:
        """Logits and metrics of a split by the very function that classifies, so that a report and `evaluate` agree."""
        reviews, began = self.data.splits[split], time.monotonic()
        logits = modeling.forward(model, self.base.tokenizer, reviews.texts, self.max_length).numpy()
        return logits, compute_metrics(
            reviews.labels, logits, self.data.labels, self.data.ordinal, time.monotonic() - began
        )

    def probe(self, model: PeftModel, step: int) -> None:
        """Scores the pinned reviews."""
        if self.config.pinned:
            shares = softmax(modeling.forward(model, self.base.tokenizer, self.config.pinned, self.max_length).numpy())
            for text, share in zip(self.config.pinned, shares.tolist(), strict=True):
                self.emit(Probe(step, text, dict(zip(self.data.labels, share, strict=True))))


def train(
    config: RunConfig,
    folder: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    write_card: WriteCard | None = None,
    call: Call = call_here,
) -> str:
    """Runs `config` in `folder`; returns "done" or "stopped" (then adapter/, report.json and answers.jsonl are there).

    `write_card(report, base name)` gives the adapter's model card; `call` puts the reload proof into a process of its
    own, where one can be had.

    A run stopped before its first step has none of them. Where `folder` holds a checkpoint of the run, it goes on from
    there: the same optimizer, schedule, order of reviews and step count, and so the same losses as if it had never
    stopped.

    Raises DemoErrors for what the user can mend; no adapter is left behind by a run that fails.
    """
    began = time.monotonic()
    device = choose_device()
    limits = room.make_room(device)
    emit(Phase("preparing", device.reason))
    data = _load_data(config, emit, should_stop)
    source = sources.resolve(
        config.model,
        config.revision,
        should_stop=should_stop,
        on_progress=lambda text, done: emit(Phase("fetching the model", text, done)),
    )
    emit(Phase("loading the model", f"{config.model} at {config.precision}", labels=len(data.labels)))
    set_seed(config.seed)
    base = modeling.load_base(source, data.labels, config.precision, device)
    max_length = modeling.usable_length(base.tokenizer, base.model.config, config.max_length)
    train_set = Tokens(data.splits["train"], base.tokenizer, max_length)
    limits.rows, limits.length = len(train_set), max(map(len, train_set.ids))
    run = Run(config, folder, device, data, base, max_length, train_set, limits, emit, should_stop, call, [])
    for sentence in doubts.check_data(data):
        run.doubt(sentence)
    try:
        return _train(run, write_card, began)
    except DemoError:
        raise
    except Exception as error:
        if not (source.folder / "config.json").is_file():
            raise ModelError(
                f"The files of the model {config.model} went away during the run; put them back, and resume it."
            ) from error
        if not is_out_of_memory(error):
            raise
        log.exception("Memory ran out")
    # After the block, so that nothing holds the frames of what failed, and with them the memory.
    gc.collect()
    if device.kind == "cuda":
        torch.cuda.empty_cache()
    raise room.explain(limits, config, base, len(data.labels))


def _train(run: Run, write_card: WriteCard | None, began: float) -> str:
    config, data, base, emit = run.config, run.data, run.base, run.emit
    model = modeling.attach_lora(
        base, rank=config.rank, alpha=config.alpha, dropout=config.dropout, targets=config.targets
    )
    if config.start_from:
        modeling.start_from(model, base, find_adapter(config.start_from, run.folder.parent), data.labels)
    ledger = memory.measure_loaded(model, "lora")
    meter = Meter(run.device)
    resumed = last_checkpoint(run.folder) is not None
    judge_baselines = _baselines(run, tell=not resumed)
    emit(Phase("evaluating the untrained head", "validation and test reviews, before step 1"))
    before = {split: run.look(model, split)[1] for split in ("validation", "test")}
    if not resumed:  # else it was told when the run began
        for split, metrics in before.items():
            emit(_evaluation(0, metrics, split))
        run.probe(model, 0)
    if run.should_stop():
        emit(Notice("The run was stopped before its first step, so there is no adapter to keep."))
        return "stopped"

    trainer, events = build_trainer(
        config,
        model,
        base,
        data,
        run.train_set,
        run.folder,
        meter,
        emit,
        run.should_stop,
        partial(run.probe, model),
        run.doubt,
    )
    predicted = _predict_memory(run)
    drop_half_written(run.folder)
    # One of the last step cannot be gone on from; a run that died after it takes the one before.
    checkpoint = last_checkpoint(run.folder, below=trainer.args.max_steps)
    if resumed:
        emit(Resumed(step_of(checkpoint) if checkpoint else 0))
    with GpuWatch(emit, active=run.device.kind == "cuda") as watch:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.model.zero_grad(set_to_none=True)  # type: ignore[union-attr]  # what evaluation does not need again is freed
    trainer.optimizer = trainer.lr_scheduler = None
    steps, early = trainer.state.global_step, not events.stopped and trainer.state.global_step < trainer.args.max_steps
    if early:
        emit(
            Notice(
                f"Ended early, after step {steps}: {config.patience} evaluations without a better {config.best_metric}."
            )
        )
    emit(Phase("evaluating", "the best checkpoint on validation and test reviews"))
    looked = {split: run.look(model, split) for split in ("validation", "test")}
    for split, (_, metrics) in looked.items():
        emit(_evaluation(steps, metrics, split))
    receipt = training_step.receipt(predicted, meter.standing_bytes, meter.peak_bytes, meter.peak_step)
    emit(MemoryReading("training_peak", receipt.predicted_peak_bytes, meter.peak_bytes))
    baselines = judge_baselines(data.splits["test"])
    for sentence in doubts.check_result(looked["test"][1], baselines):
        run.doubt(sentence)

    draft = run.folder / "adapter.draft"
    shutil.rmtree(draft, ignore_errors=True)
    modeling.save_adapter(model, base.tokenizer, _note(run), draft)
    untrained = before["test"]
    if config.start_from:  # before step 1 the network had been trained already: the base is what it was before that
        with modeling.as_base(model, True):
            untrained = run.look(model, "test")[1]
    emit(Phase("proving the reload", "the adapter in a fresh process, under another seed"))
    proof = _prove(run, model, draft)
    trainable, every = modeling.trainable_parameters(model)
    report = RunReport(
        base=untrained,
        start=before["test"] if config.start_from else None,
        final={split: metrics for split, (_, metrics) in looked.items()},
        calibration=calibrate(
            data.splits["validation"].labels, looked["validation"][0], data.splits["test"].labels, looked["test"][0]
        ),
        baselines=baselines,
        memory=RunMemory(
            model=ledger,
            peak_bytes=meter.peak_bytes,
            peak_is="allocated on the GPU" if run.device.kind == "cuda" else "resident",
            **vars(receipt),
        ),
        energy=watch.energy(),
        parameters=Parameters(trainable=trainable, all=every),
        reload=proof,
        training=Training(
            steps=steps,
            seconds=result.metrics["train_runtime"],
            loss=last_loss(trainer.state),
            reviews_per_second=result.metrics["train_samples_per_second"],
            best_step=best_step(trainer.state),
            resumed_at=step_of(checkpoint) if checkpoint else None,
            ended_early=early,
        ),
        environment=Environment(**environment(run.device)),
        data=DataSummary(**data.describe()),
        config=config,
        seconds=round(time.monotonic() - began, 1),
        stopped=events.stopped,
        kept="the best evaluated checkpoint" if trainer.state.best_model_checkpoint else "the last step",
        warnings=tuple(run.doubts),
    )
    _keep(
        run, draft, report, {split: (data.splits[split], logits) for split, (logits, _) in looked.items()}, write_card
    )
    return "stopped" if events.stopped else "done"


def _keep(
    run: Run,
    draft: Path,
    report: RunReport,
    answers: dict[str, tuple[reviews_of.Reviews, Floats]],
    write_card: WriteCard | None,
) -> None:
    """Everything into its place by renaming, the report last: who sees it finds the rest."""
    text = report.to_json()
    (draft / "report.json").write_text(text)
    if write_card:
        (draft / "README.md").write_text(write_card(report.to_dict(), run.base.source.base_name))
    write_answers(run.folder / "answers.jsonl.draft", answers)
    (run.folder / "report.json.draft").write_text(text)
    adapter, old = run.folder / "adapter", run.folder / "adapter.old"
    if (
        adapter.exists()
    ):  # that of the stop before, where the run was resumed; out of the way whole, since removing takes its time
        adapter.rename(old)
    draft.rename(adapter)
    shutil.rmtree(old, ignore_errors=True)
    for name in ("answers.jsonl", "report.json"):
        (run.folder / f"{name}.draft").rename(run.folder / name)


def _load_data(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> reviews_of.DataSet:
    emit(Phase("loading the reviews", Path(config.data).name if Path(config.data).is_absolute() else config.data))
    columns = reviews_of.Columns(
        text=config.text_column,
        title=config.title_column,
        label=config.label_column,
        encoding=config.encoding,
        delimiter=config.delimiter,
        header={"yes": True, "no": False}.get(config.header),
        labels=config.labels,
        mend=config.mend,
    )
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
        raise TrainingError(
            f"The training reviews have {len(set(train.labels))} different labels; give reviews of at least two."
        )
    for split in ("validation", "test"):
        if not len(data.splits[split]):
            raise TrainingError(
                f"There are no {split} reviews ({len(train)} for training); give at least 30 reviews, some of each"
                " label."
            )
    for note in data.notes:
        emit(Notice(note))
    for reason, rows in data.skipped.items():
        emit(Notice(f"{rows:,} rows were left out: {reason}."))
    if len(train) < config.batch_size:
        emit(
            Notice(
                f"There are {len(train)} training reviews, fewer than one batch of {config.batch_size}: every step sees"
                " all of them."
            )
        )
    return data


def _baselines(run: Run, tell: bool) -> Callable[[reviews_of.Reviews], dict[str, Metrics]]:
    """What needs no network, learnt before step 1, so that the curves can be held against it."""
    run.emit(Phase("counting words", "the baselines: the commonest label, and TF-IDF with logistic regression"))
    found = fit_baselines(run.data.splits["train"], run.data.labels, run.data.ordinal)
    if tell:
        for name, metrics in found(run.data.splits["validation"]).items():
            run.emit(Baseline(name, metrics.loss, metrics.accuracy, metrics.macro_f1, metrics.mae_stars, "validation"))
    return found


def _predict_memory(run: Run) -> Budget | None:
    """What a step on the longest batch will take. The run does not hang on it: None, and a notice, where it cannot be
    said.
    """
    try:
        found = training_step.predict_run(
            run.config, run.base, len(run.data.labels), min(run.config.batch_size, run.room.rows), run.room.length
        )
    except Exception as error:  # a family whose steps need real numbers, or a library that changed
        run.emit(
            Notice(
                f"The memory of a step could not be predicted ({str(error).splitlines()[0][:160]}); the run goes on."
            )
        )
        found = None
    run.room.stand()
    if found and not room.fits_now(run.room, found.step_bytes):
        left = run.room.limit_bytes - run.room.standing_bytes
        run.emit(
            Notice(
                f"A step is predicted to take {size(found.step_bytes)} of memory, and {size(left)} are left: it may not"
                " fit."
            )
        )
    return found


def _evaluation(step: int, metrics: Metrics, split: str) -> Evaluation:
    return Evaluation(step, metrics.loss, metrics.accuracy, metrics.macro_f1, metrics.mae_stars, split)


def _note(run: Run) -> modeling.AdapterNote:
    return modeling.AdapterNote(
        run.config.model,
        run.base.source.base_name,
        run.base.source.revision,
        list(run.data.labels),
        run.data.ordinal,
        run.config.precision,
        run.device.compute_dtype,
        run.max_length,
        int(run.base.tokenizer.pad_token_id or 0),
    )


def _prove(run: Run, model: PeftModel, draft: Path) -> ReloadProof:
    texts = run.data.splits["validation"].texts[:PROOF_TEXTS]
    tuned = modeling.forward(model, run.base.tokenizer, texts, run.max_length).numpy()
    with modeling.as_base(model, True):
        untrained = modeling.forward(model, run.base.tokenizer, texts, run.max_length).numpy()
    if run.device.kind == "cuda" and free_memory_bytes("cuda") < PROOF_MARGIN * process_memory_bytes("cuda"):
        cast(Any, run.base.model).to("cpu")  # the fresh process needs room for the base
        torch.cuda.empty_cache()
    return reload_proof.prove(
        draft, texts, tuned, untrained, seed=run.config.seed + 1, compute_dtype=run.device.compute_dtype, call=run.call
    )
