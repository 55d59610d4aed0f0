"""The commands that load models in this very process: doctor, memory, classify, evaluate.

They import the engine when they run, not before. Knows nothing of jobs, except where runs (and so adapters) lie.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..core.errors import DataError, SettingsError
from ..core.file_report import FileReport
from ..core.format import shorten
from ..core.names import STAGES
from ..core.records import Columns, Event
from ..core.requests import MemoryRequest
from ..engine import importing
from ..host.environment import default_home
from ..services.memory import report_memory
from . import lines
from .base import Output, add_command
from .data import add_reading, columns_of

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "huggingface_hub", "gradio")
_ADAPTER_HELP = "`sample` (the shipped one), a run's id, a local folder, or a Hub id."


def add_commands(commands: Any) -> None:
    add_command(commands, "doctor", run_doctor, "Tell what this machine can do.")
    memory = add_command(
        commands, "memory", run_memory, "Weigh a model at each stage of QLoRA, predicted and measured."
    )
    memory.add_argument("model", metavar="MODEL", help="`sample`, a Hub id, or a local folder.")
    memory.add_argument("--labels", metavar="N", help="Classes of the head [default 5].")
    way = memory.add_mutually_exclusive_group()
    way.add_argument("--predict", action="store_true", help="From the configuration alone; no weights are needed.")
    way.add_argument("--measure", action="store_true", help="By loading the model at each stage.")
    memory.add_argument("--stages", metavar="NAMES", help=f"Separated by commas, of: {','.join(STAGES)}.")
    memory.add_argument("--rank", metavar="R", help="LoRA rank of stage lora [default 16].")
    memory.add_argument("--targets", metavar="NAMES", help="all-linear, or module names separated by commas.")
    memory.add_argument("--revision", metavar="REV", help="Commit, tag or branch on the Hub.")
    memory.add_argument("--batch-size", metavar="N", help="Weigh a training step on N reviews, too.")
    memory.add_argument("--length", metavar="N", help="Tokens of each review of that step [default 128].")
    memory.add_argument(
        "--gradient-checkpointing", action="store_true", default=None, help="Recompute activations in that step."
    )
    memory.add_argument(
        "--optimizer", metavar="NAME", help="AdamW of that step, such as adamw_8bit [default adamw_torch_fused]."
    )
    memory.add_argument(
        "--random-weights", action="store_true", default=None, help="Weigh the shape alone; weights are made up."
    )
    classify = add_command(commands, "classify", run_classify, "Classify texts, or the rows of a file.")
    classify.add_argument("--adapter", metavar="ADAPTER", required=True, help=_ADAPTER_HELP)
    classify.add_argument("--base", action="store_true", help="The same network as it was before training.")
    classify.add_argument(
        "--file", metavar="IN", help="Classify the rows of this .csv .tsv .json .jsonl or .parquet, also .gz or .zip."
    )
    classify.add_argument(
        "--output", metavar="OUT", help="Write the rows with their predictions here: .csv, .tsv, .jsonl or .parquet."
    )
    for name, what in (
        ("text", "texts"),
        ("title", "titles, joined before the texts (- = none)"),
        ("label", "right labels, to judge by (- = none)"),
    ):
        classify.add_argument(
            f"--{name}", metavar="COL", help=f"The file's column with the {what}; found by name without it."
        )
    classify.add_argument("texts", metavar="TEXT", nargs="*", help="A review.")
    evaluate = add_command(commands, "evaluate", run_evaluate, "Judge an adapter on labelled reviews.")
    evaluate.add_argument("--adapter", metavar="ADAPTER", required=True, help=_ADAPTER_HELP)
    evaluate.add_argument(
        "--data", metavar="DATA", required=True, help="`sample`, a preset, a file, or a Hub data set."
    )
    evaluate.add_argument("--base", action="store_true", help="The same network as it was before training.")
    add_reading(evaluate)


def run_doctor(options: argparse.Namespace, out: Output) -> int:
    from ..engine.models import sources
    from ..engine.models.device import choose_device

    device = choose_device()
    reachable = sources.hub_reachable()
    facts = {
        "device": device.kind,
        "device_name": device.name,
        "device_reason": device.reason,
        "compute_dtype": device.compute_dtype,
        "bitsandbytes": _four_bits_work(device.kind),
        "hub_reachable": reachable,
        "hub_user": sources.hub_user() if reachable else None,
        "free_disk_bytes": _free_disk_bytes(default_home()),
        "memory_bytes": device.memory_bytes,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}},
    }
    out.show(facts, lambda: lines.machine(facts))
    return 0


def run_memory(options: argparse.Namespace, out: Output) -> int:
    names = (
        "model",
        "labels",
        "rank",
        "targets",
        "revision",
        "random_weights",
        "batch_size",
        "length",
        "gradient_checkpointing",
        "optimizer",
    )
    fields = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.stages is not None:
        fields["stages"] = [name.strip() for name in options.stages.split(",") if name.strip()]
    request = MemoryRequest.read(fields)
    ways = ("predicted",) if options.predict else ("measured",) if options.measure else ("predicted", "measured")
    report = report_memory(request, _Progress(out), lambda: False, ways).to_dict()
    result = {name: report[name] for name in ("model", "parameters", "stages", "process", "step")}
    out.show(result, lambda: lines.memory_table(result))
    return 0


def run_classify(options: argparse.Namespace, out: Output) -> int:
    if options.file is not None:
        if options.texts or options.output is None:
            raise SettingsError({"file": "Give --file IN.csv with --output OUT.csv, and no texts beside them."})
        return _classify_file(options, out)
    if not options.texts or any(
        value is not None for value in (options.output, options.text, options.title, options.label)
    ):
        raise SettingsError({"text": "Give one or more texts, or --file IN.csv --output OUT.csv."})
    for text in options.texts:
        # Before anything is loaded.
        if problem := _problem(text):
            raise DataError(f"The review {shorten(text, 30)!r} {problem}; give some words.")
    predictions = _predict(_classifier(options, options.texts), options.texts, options.base)
    out.show(predictions, lambda: "\n".join(map(lines.prediction, predictions)))
    return 0


def run_evaluate(options: argparse.Namespace, out: Output) -> int:
    from ..engine.classify.classifier import evaluate

    result = evaluate(
        options.adapter,
        options.data,
        base=options.base,
        data_config=options.config,
        split=options.split,
        revision=options.revision,
        columns=columns_of(options),
        runs_home=default_home(),
    ).to_dict()
    out.show(result, lambda: lines.metrics(result))
    return 0


def _classify_file(options: argparse.Namespace, out: Output) -> int:
    """Into a folder beside the output, and renamed into place at the end: on any error nothing is left of it."""
    from ..engine.classify import classify_file, exporting

    source, target = Path(options.file).expanduser(), Path(options.output).expanduser()
    kind = target.suffix.lower().removeprefix(".")
    if kind not in exporting.WRITERS:
        raise SettingsError(
            {"output": f"The output {target} is none of .{', .'.join(exporting.WRITERS)}; name one that is."}
        )
    if target.is_dir() or os.path.realpath(source) == os.path.realpath(target):
        raise DataError(f"The output {target} is the input or a folder; give another file.")
    columns = Columns(text=options.text or "", title=options.title or "", label=options.label or "")
    classify_file.open_reviews(source, columns)  # before anything is loaded
    shown: list[dict[str, Any]] = []
    with _draft_folder(target) as folder:
        report = classify_file.classify_file(
            source,
            columns,
            _classifier(options, many=True),
            folder,
            base=options.base,
            emit=_Progress(out),
            on_predictions=lambda found: shown.extend(one.to_dict() for one in found if out.as_json),
        )
        exporting.WRITERS[kind](folder, folder / f"result.{kind}")
        (folder / f"result.{kind}").replace(target)
    for note in _notes(report):
        out.note(note)
    out.show(shown, lambda: f"Wrote {report.done:,} rows to {options.output}.")
    return 0


def _notes(report: FileReport) -> list[str]:
    """What one should know of a classified file."""
    missing = report.without_prediction
    why = ", ".join(f"{rows:,} {reason}" for reason, rows in missing.items())
    return [
        *([f"{sum(missing.values()):,} of {report.done:,} rows have no prediction: {why}."] if missing else []),
        *(
            f"Rows left out: {item.rows:,}, because of {item.reason} (line {', '.join(map(str, item.first_lines))})."
            for item in report.skipped
        ),
        *report.notes,
        *([report.judged, lines.metrics(report.final["test"].to_dict())] if report.final else []),
    ]


@contextmanager
def _draft_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target`, removed at the end. What cannot be written is a DataError."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or target} cannot be written: {error.strerror or 'input or output error'}."
        ) from None


def _classifier(options: argparse.Namespace, texts: Sequence[str] = (), *, many: bool = False) -> Any:
    """The adapter, loaded; not for texts that the engine refuses. `many`: as it answers most quickly."""
    with importing():
        from ..engine.classify import classifier as inference
    inference.check_texts(texts)
    return inference.Classifier(options.adapter, runs_home=default_home(), restored=many)


def _predict(classifier: Any, texts: list[str], base: bool) -> list[dict[str, Any]]:
    return [prediction.to_dict() for prediction in classifier.classify(texts, base=base)]


def _problem(text: str) -> str | None:
    """What keeps a text of any length from being classified."""
    if not text.strip():
        return "is empty"
    # What a terminal passes on undecoded; tokenizers refuse it.
    return "is not valid Unicode" if any("\ud800" <= letter <= "\udfff" for letter in text) else None


class _Progress:
    """Events of work in this process, as notes."""

    def __init__(self, out: Output):
        self._out = out
        self._lines = lines.EventLines()

    def __call__(self, event: Event) -> None:
        if self._lines.line(event.to_dict()):
            self._out.note(self._lines.text)


def _four_bits_work(kind: str) -> bool:
    """Whether bitsandbytes packs a small matrix on the device and brings it back."""
    try:
        import bitsandbytes.functional as functional
        import torch

        weights = torch.randn(64, 64, device=kind)
        packed, state = functional.quantize_4bit(weights, quant_type="nf4")
        return bool((functional.dequantize_4bit(packed, state) - weights).abs().mean() < 0.2)
    except Exception:  # a broken installation shows itself in any way it likes
        return False


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _free_disk_bytes(folder: Path) -> int:
    """Where runs would be written, which need not exist yet."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
