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
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import set_seed

from ...core.cancellation import Call, ShouldStop, call_here
from ...core.config import RunConfig
from ...core.errors import DemoError, ModelError, is_out_of_memory
from ...core.format import size
from ...core.memory_report import Budget
from ...core.records import Baseline, MemoryReading, Notice, Phase, Resumed
from ...core.run_report import Energy, Metrics, Parameters, ReloadProof, RunMemory, RunReport, Training
from ...core.safety import PROOF_MARGIN
from ..classify.calibration import calibrate
from ..classify.metrics import Floats, fit_baselines, write_answers
from ..data import dataset
from ..memory import ledger, training_step
from ..models import modeling, sources
from ..models.adapters import find_adapter
from ..models.device import choose_device, environment, free_memory_bytes, process_memory_bytes
from . import memory_limit, reload_proof, warnings
from .batches import Tokens
from .callback import Meter
from .checkpoints import best_step, drop_half_written, last_checkpoint, last_loss, step_of
from .context import Emit, Run
from .gpu import GpuWatch
from .reviews import EVALUATED, load_data
from .trainer import build_trainer

PROOF_TEXTS = 16
WriteCard = Callable[[RunReport, str], str]
log = logging.getLogger("qlora_demo.worker")


@dataclass(frozen=True)
class Steps:
    """What the optimizer steps came to; `memory` is without the model's stage."""

    training: Training
    memory: RunMemory
    energy: Energy | None
    stopped: bool
    kept: str


def train(
    config: RunConfig,
    folder: Path,
    emit: Emit,
    should_stop: ShouldStop,
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
    run = _prepare(config, folder, emit, should_stop, call)
    source, device = run.base.source, run.device
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
    raise memory_limit.shortage(run.limit, config, run.base, len(run.data.labels))


def _prepare(config: RunConfig, folder: Path, emit: Emit, should_stop: ShouldStop, call: Call) -> Run:
    """Reviews and base, loaded within the memory that this process may take."""
    device = choose_device()
    limit = memory_limit.limit_memory(device)
    emit(Phase("preparing", device.reason))
    data = load_data(config, emit, should_stop)
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
    limit.rows, limit.length = len(train_set), max(map(len, train_set.ids))
    run = Run(config, folder, device, data, base, max_length, train_set, limit, emit, should_stop, call)
    for sentence in warnings.check_data(data):
        run.warn(sentence)
    return run


def _train(run: Run, write_card: WriteCard | None, began: float) -> str:
    config, data, emit = run.config, run.data, run.emit
    model = modeling.attach_lora(
        run.base, rank=config.rank, alpha=config.alpha, dropout=config.dropout, targets=config.targets
    )
    if config.start_from:
        modeling.start_from(model, run.base, find_adapter(config.start_from, run.folder.parent), data.labels)
    stage = ledger.measure_loaded(model, "lora")
    resumed = last_checkpoint(run.folder) is not None  # then what precedes step 1 has been emitted already
    evaluate_baselines = _fit_baselines(run, announce=not resumed)
    before = _evaluate_untrained(run, model, announce=not resumed)
    if run.should_stop():
        emit(Notice("The run was stopped before its first step, so there is no adapter to keep."))
        return "stopped"

    steps = _train_steps(run, model, resumed)
    emit(Phase("evaluating", "the best checkpoint on validation and test reviews"))
    after = {split: run.evaluate(model, split) for split in EVALUATED}
    for split, (_, metrics) in after.items():
        run.emit_evaluation(steps.training.steps, split, metrics)
    emit(MemoryReading("training_peak", steps.memory.predicted_peak_bytes, steps.memory.peak_bytes))
    baselines = evaluate_baselines(data.splits["test"])
    for sentence in warnings.check_result(after["test"][1], baselines):
        run.warn(sentence)

    draft = run.folder / "adapter.draft"
    shutil.rmtree(draft, ignore_errors=True)
    modeling.save_adapter(model, run.base.tokenizer, _note(run), draft)
    untrained = before["test"]
    if config.start_from:  # before step 1 the network had been trained already: the base is what it was before that
        with modeling.as_base(model, True):
            untrained = run.evaluate(model, "test")[1]
    emit(Phase("proving the reload", "the adapter in a fresh process, under another seed"))
    proof = _prove(run, model, draft)
    trainable, total = modeling.trainable_parameters(model)
    report = RunReport(
        base=untrained,
        start=before["test"] if config.start_from else None,
        final={split: metrics for split, (_, metrics) in after.items()},
        calibration=calibrate(
            data.splits["validation"].labels, after["validation"][0], data.splits["test"].labels, after["test"][0]
        ),
        baselines=baselines,
        memory=steps.memory.model_copy(update={"model": stage}),
        energy=steps.energy,
        parameters=Parameters(trainable=trainable, all=total),
        reload=proof,
        training=steps.training,
        environment=environment(run.device),
        data=data.describe(),
        config=config,
        seconds=round(time.monotonic() - began, 1),
        stopped=steps.stopped,
        kept=steps.kept,
        warnings=tuple(run.warnings),
    )
    _keep(run, report, {split: logits for split, (logits, _) in after.items()}, write_card)
    return "stopped" if steps.stopped else "done"


def _fit_baselines(run: Run, announce: bool) -> Callable[[dataset.Reviews], dict[str, Metrics]]:
    """What needs no network, learnt before step 1, so that the curves can be held against it."""
    run.emit(Phase("counting words", "the baselines: the commonest label, and TF-IDF with logistic regression"))
    evaluate = fit_baselines(run.data.splits["train"], run.data.labels, run.data.ordinal)
    if announce:
        for name, metrics in evaluate(run.data.splits["validation"]).items():
            run.emit(
                Baseline(metrics.loss, metrics.accuracy, metrics.macro_f1, metrics.mae_stars, "validation", name=name)
            )
    return evaluate


def _evaluate_untrained(run: Run, model: PeftModel, announce: bool) -> dict[str, Metrics]:
    run.emit(Phase("evaluating the untrained head", "validation and test reviews, before step 1"))
    before = {split: run.evaluate(model, split)[1] for split in EVALUATED}
    if announce:
        for split, metrics in before.items():
            run.emit_evaluation(0, split, metrics)
        run.probe(model, 0)
    return before


def _train_steps(run: Run, model: PeftModel, resumed: bool) -> Steps:
    """All steps, or those up to a stop or an early end; afterwards the model has the best weights."""
    meter = Meter(run.device)
    trainer, events = build_trainer(run, model, meter)
    predicted = _predict_memory(run)
    drop_half_written(run.folder)
    # One of the last step cannot be gone on from; a run that died after it takes the one before.
    checkpoint = last_checkpoint(run.folder, below=trainer.args.max_steps)
    if resumed:
        run.emit(Resumed(step_of(checkpoint) if checkpoint else 0))
    with GpuWatch(run.emit, active=run.device.kind == "cuda") as watch:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.zero_grad(set_to_none=True)  # evaluation does not need them
    trainer.optimizer = trainer.lr_scheduler = None
    steps = trainer.state.global_step
    early = not events.stopped and steps < trainer.args.max_steps
    if early:
        tried = f"{run.config.patience} evaluations without a better {run.config.best_metric}"
        run.emit(Notice(f"Ended early, after step {steps}: {tried}."))
    receipt = training_step.receipt(predicted, meter.standing_bytes, meter.peak_bytes, meter.peak_step)
    return Steps(
        Training(
            steps=steps,
            seconds=result.metrics["train_runtime"],
            loss=last_loss(trainer.state),
            reviews_per_second=result.metrics["train_samples_per_second"],
            best_step=best_step(trainer.state),
            resumed_at=step_of(checkpoint) if checkpoint else None,
            ended_early=early,
        ),
        RunMemory(
            peak_bytes=meter.peak_bytes,
            peak_is="allocated on the GPU" if run.device.kind == "cuda" else "resident",
            **vars(receipt),
        ),
        watch.energy(),
        events.stopped,
        "the best evaluated checkpoint" if trainer.state.best_model_checkpoint else "the last step",
    )


def _predict_memory(run: Run) -> Budget | None:
    """What a step on the longest batch will take. The run does not depend on it: None, and a notice, where it cannot
    be predicted.
    """
    budget = None
    try:
        batch = min(run.config.batch_size, run.limit.rows)
        budget = training_step.predict_run(run.config, run.base, len(run.data.labels), batch, run.limit.length)
    except Exception as error:  # a family whose steps need real numbers, or a library that changed
        reason = str(error).splitlines()[0][:160]
        run.emit(Notice(f"The memory of a step could not be predicted ({reason}); the run goes on."))
    run.limit.begin_steps()
    if budget and budget.step_bytes > run.limit.left_bytes:
        sizes = f"{size(budget.step_bytes)} of memory, and {size(run.limit.left_bytes)} are left"
        run.emit(Notice(f"A step is predicted to take {sizes}: it may not fit."))
    return budget


def _note(run: Run) -> modeling.AdapterNote:
    return modeling.AdapterNote(
        model=run.config.model,
        base_name=run.base.source.base_name,
        revision=run.base.source.revision,
        labels=list(run.data.labels),
        ordinal=run.data.ordinal,
        precision=run.config.precision,
        compute_dtype=run.device.compute_dtype,
        max_length=run.max_length,
        pad_token_id=int(run.base.tokenizer.pad_token_id or 0),
    )


def _prove(run: Run, model: PeftModel, draft: Path) -> ReloadProof:
    texts = run.data.splits["validation"].texts[:PROOF_TEXTS]
    tuned = modeling.forward(model, run.base.tokenizer, texts, run.max_length).numpy()
    with modeling.as_base(model, True):
        untrained = modeling.forward(model, run.base.tokenizer, texts, run.max_length).numpy()
    if run.device.kind == "cuda" and free_memory_bytes("cuda") < PROOF_MARGIN * process_memory_bytes("cuda"):
        cast(Any, run.base.model).to("cpu")  # the fresh process needs room for the base
        torch.cuda.empty_cache()
    seed, compute_dtype = run.config.seed + 1, run.device.compute_dtype
    return reload_proof.prove(draft, texts, tuned, untrained, seed=seed, compute_dtype=compute_dtype, call=run.call)


def _keep(run: Run, report: RunReport, logits: dict[str, Floats], write_card: WriteCard | None) -> None:
    """Writes all drafts, then puts them into place."""
    draft = run.folder / "adapter.draft"
    (draft / "report.json").write_text(report.to_json())
    if write_card:
        (draft / "README.md").write_text(write_card(report, run.base.source.base_name))
    write_answers(
        run.folder / "answers.jsonl.draft", {split: (run.data.splits[split], rows) for split, rows in logits.items()}
    )
    (run.folder / "report.json.draft").write_text(report.to_json())
    put_into_place(run.folder)


def put_into_place(folder: Path) -> None:
    """The drafts of a run renamed to their names, the report last: who sees it finds the rest.

    An adapter of the stop before, where the run was resumed, is moved out of the way first, since removing it takes its
    time. Who is killed in here leaves what the job's reader completes (jobs.store.Job.finish)."""
    adapter, old = folder / "adapter", folder / "adapter.old"
    if adapter.exists():
        adapter.rename(old)
    for name in ("adapter", "answers.jsonl", "report.json"):
        (folder / f"{name}.draft").rename(folder / name)
    shutil.rmtree(old, ignore_errors=True)
