"""The commands that load models in this very process: doctor, memory, classify, evaluate.

They import the engine when they run, not before. Knows nothing of jobs, except where runs (and so adapters) lie.
"""

from __future__ import annotations

import argparse
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..config import MemoryRequest
from ..errors import DataError, SettingsError
from ..jobs.store import default_home
from ..records import STAGES, Event
from ..text import shorten
from ..weighing import weigh
from . import lines
from .base import Output, add_command
from .tables import rewrite

_BATCH = 256
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "huggingface_hub", "gradio")
_ADAPTER_HELP = "`sample` (the shipped one), a run's id, a local folder, or a Hub id."


def add_commands(commands: Any) -> None:
    add_command(commands, "doctor", run_doctor, "Tell what this machine can do.")
    memory = add_command(commands, "memory", run_memory, "Weigh a model at each stage of QLoRA, predicted and measured.")
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
    memory.add_argument("--gradient-checkpointing", action="store_true", default=None, help="Recompute activations in that step.")
    memory.add_argument("--optimizer", metavar="NAME", help="AdamW of that step, such as adamw_8bit [default adamw_torch_fused].")
    memory.add_argument("--random-weights", action="store_true", default=None, help="Weigh the shape alone; weights are made up.")
    classify = add_command(commands, "classify", run_classify, "Classify texts, or the rows of a CSV file.")
    classify.add_argument("--adapter", metavar="ADAPTER", required=True, help=_ADAPTER_HELP)
    classify.add_argument("--base", action="store_true", help="The same network as it was before training.")
    classify.add_argument("--file", metavar="IN.csv", help="Classify the rows of this file.")
    classify.add_argument("--output", metavar="OUT.csv", help="Write the rows with their predictions here.")
    classify.add_argument("--text", metavar="COL", help="The column with the texts; found by name without it.")
    classify.add_argument("texts", metavar="TEXT", nargs="*", help="A review.")
    evaluate = add_command(commands, "evaluate", run_evaluate, "Judge an adapter on labelled reviews.")
    evaluate.add_argument("--adapter", metavar="ADAPTER", required=True, help=_ADAPTER_HELP)
    evaluate.add_argument("--data", metavar="DATA", required=True, help="`sample`, a preset, a file, or a Hub data set.")
    evaluate.add_argument("--base", action="store_true", help="The same network as it was before training.")
    for name in ("config", "split", "revision"):
        evaluate.add_argument(f"--{name}", metavar=name.upper(), default="", help=f"The {name} of a Hub data set.")


def run_doctor(options: argparse.Namespace, out: Output) -> int:
    from ..engine import sources
    from ..engine.device import choose_device

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
    names = ("model", "labels", "rank", "targets", "revision", "random_weights", "batch_size", "length", "gradient_checkpointing",
             "optimizer")  # fmt: skip
    fields = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.stages is not None:
        fields["stages"] = [name.strip() for name in options.stages.split(",") if name.strip()]
    request = MemoryRequest.read(fields)
    ways = ("predicted",) if options.predict else ("measured",) if options.measure else ("predicted", "measured")
    report = weigh(request, _Progress(out), lambda: False, ways)
    result = {name: report[name] for name in ("model", "parameters", "stages", "process", "step")}
    out.show(result, lambda: lines.memory_table(result))
    return 0


def run_classify(options: argparse.Namespace, out: Output) -> int:
    if options.file is not None:
        if options.texts or options.output is None:
            raise SettingsError({"file": "Give --file IN.csv with --output OUT.csv, and no texts beside them."})
        return _classify_file(options, out)
    if not options.texts or options.output is not None or options.text is not None:
        raise SettingsError({"text": "Give one or more texts, or --file IN.csv --output OUT.csv."})
    for text in options.texts:
        # Before anything is loaded.
        if problem := _problem(text):
            raise DataError(f"The review {shorten(text, 30)!r} {problem}; give some words.")
    predictions = _predict(_classifier(options, options.texts), options.texts, options.base)
    out.show(predictions, lambda: "\n".join(map(lines.prediction, predictions)))
    return 0


def run_evaluate(options: argparse.Namespace, out: Output) -> int:
    from ..engine import evaluation

    result = evaluation.evaluate(options.adapter, options.data, base=options.base, data_config=options.config, split=options.split,
                                 revision=options.revision, runs_home=default_home()).to_dict()  # fmt: skip
    out.show(result, lambda: lines.metrics(result))
    return 0


def _classify_file(options: argparse.Namespace, out: Output) -> int:
    """Row by row in batches, so that a file of any length fits; a text that cannot be classified keeps its row without a prediction."""
    shown: list[dict[str, Any]] = []
    rows = left_out = 0
    with rewrite(Path(options.file), Path(options.output), options.text) as table:
        classifier = _classifier(options)
        limit = _longest_text()
        table.write_header(["label", "stars", "expected_stars", *(f"probability_{label}" for label in classifier.labels)])
        for batch in table.batches(_BATCH):
            fit = [row for row in batch if not _problem(row.text) and len(row.text) <= limit]
            predictions = _predict(classifier, [row.text for row in fit], options.base) if fit else []
            found = dict(zip(map(id, fit), predictions, strict=True))
            for row in batch:
                table.write(row, _cells(found[id(row)]) if id(row) in found else [])
            rows, left_out = rows + len(batch), left_out + len(batch) - len(fit)
            shown += predictions if out.as_json else []
    if left_out:
        out.note(f"{left_out:,} of {rows:,} texts are empty or longer than {limit:,} characters; their rows have no prediction.")
    out.show(shown, lambda: f"Wrote {rows:,} rows to {options.output}.")
    return 0


def _cells(prediction: dict[str, Any]) -> list[str]:
    stars, expected = prediction["stars"], prediction["expected_stars"]
    return [
        str(prediction["label"]),
        "" if stars is None else str(stars),
        "" if expected is None else f"{expected:.4f}",
        *(f"{share:.6f}" for share in prediction["probabilities"].values()),
    ]


def _classifier(options: argparse.Namespace, texts: Sequence[str] = ()) -> Any:
    """The adapter, loaded; not for texts that the engine refuses."""
    from ..engine import inference

    inference.check_texts(texts)
    return inference.Classifier(options.adapter, runs_home=default_home())


def _longest_text() -> int:
    from ..engine import inference

    return inference.MAX_CHARACTERS


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
