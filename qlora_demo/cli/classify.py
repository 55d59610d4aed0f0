"""The commands classify, evaluate and explain: what an adapter answers, how well, and why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core.errors import SettingsError
from ..core.requests import ClassifyRequest
from . import lines
from .base import ADAPTER, Options, Output, add_command, open_services
from .data import DATA, READING, read_request
from .events import Progress

BY: Options = {
    "--adapter": {"metavar": "ADAPTER", "required": True, "help": ADAPTER},
    "--base": {"action": "store_true", "help": "By the same network as it was before training."},
}
FILE: Options = {
    "--file": {"metavar": "IN", "help": "Classify the rows of this file, of a kind that data reads."},
    "--output": {"metavar": "OUT", "help": "Write the rows with their predictions here: .csv .tsv .jsonl .parquet."},
    **{
        f"--{name}": {"metavar": "COL", "help": f"The file's column with the {what}; else detected by name."}
        for name, what in (
            ("text", "texts"),
            ("title", "titles, joined before the texts (- = none)"),
            ("label", "true labels, to evaluate the adapter (- = none)"),
        )
    },
    "texts": {"metavar": "TEXT", "nargs": "*", "help": "A review."},
}
COLUMNS = ("text", "title", "label")


def add_commands(commands: Any) -> None:
    add_command(commands, "classify", run_classify, "Classify texts, or the rows of a file.", {**BY, **FILE})
    data = {"--data": {"metavar": "DATA", "required": True, "help": DATA}}
    summary = "Evaluate an adapter on labelled reviews."
    add_command(commands, "evaluate", run_evaluate, summary, {**BY, **data, **READING})
    explained: Options = {
        "--label": {"metavar": "LABEL", "help": "Explain this label [default: the likeliest]."},
        "text": {"metavar": "TEXT", "help": "A review."},
    }
    summary = "Explain which words gave a review its label."
    add_command(commands, "explain", run_explain, summary, {**BY, **explained})


def run_classify(options: argparse.Namespace, out: Output) -> int:
    columns = {f"{name}_column": value for name in COLUMNS if (value := getattr(options, name)) is not None}
    if options.file is not None:
        if options.texts or options.output is None:
            raise SettingsError({"file": "Give --file IN.csv with --output OUT.csv, and no texts beside them."})
        fields = {"file": options.file, "adapter": options.adapter, "base": options.base, **columns}
        return _classify_file(ClassifyRequest.read(fields), options.output, out)
    if not options.texts or options.output is not None or columns:
        raise SettingsError({"text": "Give one or more texts, or --file IN.csv --output OUT.csv."})
    predictions = open_services().classify.classify_many(options.texts, options.adapter, base=options.base)
    out.show([one.to_dict() for one in predictions], lambda: "\n".join(map(lines.prediction, predictions)))
    return 0


def run_evaluate(options: argparse.Namespace, out: Output) -> int:
    metrics = open_services().classify.evaluate(read_request(options), options.adapter, base=options.base)
    out.show(metrics.to_dict(), lambda: lines.metrics(metrics))
    return 0


def run_explain(options: argparse.Namespace, out: Output) -> int:
    service = open_services().classify
    explanation = service.explain(options.text, options.adapter, label=options.label, base=options.base)
    out.show(explanation.to_dict(), lambda: lines.explanation(explanation))
    return 0


def _classify_file(request: ClassifyRequest, output: str, out: Output) -> int:
    rows: list[dict[str, object]] = []
    report = open_services().files.classify(
        request,
        Path(output).expanduser(),
        Progress(out.note),
        lambda predictions: rows.extend(one.to_dict() for one in predictions if out.as_json),
    )
    for note in lines.file_notes(report):
        out.note(note)
    out.show(rows, lambda: f"Wrote {report.done:,} rows to {output}.")
    return 0
