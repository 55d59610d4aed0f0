"""The command data: what is in reviews, before anything is trained on them; and how reviews are named to a command."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..core.config import RunConfig
from ..core.errors import SettingsError
from ..core.names import SAMPLE
from ..core.requests import DataRequest
from . import lines
from .base import Options, Output, add_command, open_services

_MOST_TOKENS = 100_000
DATA = "`sample`, a preset name, a file (.csv .tsv .json .jsonl .parquet, also .gz or .zip), a folder, or a Hub id."
# How reviews are read, and which of a Hub data set's.
READING: Options = {
    "--text": {"metavar": "COL", "default": "", "help": "The column with the texts; else detected by name."},
    "--title": {
        "metavar": "COL",
        "default": "",
        "help": "The column with the titles, joined before the texts (- = none); else detected by name.",
    },
    "--label": {"metavar": "COL", "default": "", "help": "The column with the labels; else detected by name."},
    "--labels": {"metavar": "LIST", "help": "The labels that count, in order, comma-separated, such as 1,2,3,4,5."},
    "--encoding": {"metavar": "NAME", "default": "", "help": "Such as utf-8, utf-16, cp1252 or cp850; else detected."},
    "--delimiter": {
        "metavar": "CHARACTER",
        "default": "",
        "help": "Of a text file's columns: , ; | or tab; else detected.",
    },
    "--header": {
        "action": argparse.BooleanOptionalAction,
        "default": None,
        "help": "Whether the first row names the columns.",
    },
    "--mend": {"action": "store_true", "help": "Fix encoding errors and HTML entities."},
    **{
        f"--{name}": {"metavar": name.upper(), "default": "", "help": f"The {name} of a Hub data set."}
        for name in ("config", "split", "revision")
    },
}


def add_commands(commands: Any) -> None:
    length = {"metavar": "N", "help": "Tokens kept of a review [default that of train]."}
    model = {"metavar": "MODEL", "default": SAMPLE, "help": "Whose tokenizer counts [default sample]."}
    options = {"data": {"metavar": "DATA", "help": DATA}, **READING, "--model": model, "--max-length": length}
    summary = "Report what is in reviews: rows, labels, lengths, and what is wrong with them."
    add_command(commands, "data", run_data, summary, options)


def read_request(options: argparse.Namespace) -> DataRequest:
    """Which reviews the options name, and how they are to be read."""
    names = ("text", "title", "label", "encoding", "delimiter", "header", "mend", "config", "split", "revision")
    labels = tuple(options.labels.split(",")) if options.labels else ()
    fields = {name: getattr(options, name) for name in names}
    return DataRequest(os.path.expanduser(options.data), labels=labels, **fields)


def run_data(options: argparse.Namespace, out: Output) -> int:
    length = _max_length(options.max_length)
    report = open_services().data.report(read_request(options), options.model, length)
    out.show(report.to_dict(), lambda: lines.data_report(report))
    return 0


def _max_length(stated: str | None) -> int:
    if stated is None:
        return int(RunConfig.model_fields["max_length"].default)
    if not stated.isascii() or not stated.isdigit() or not 1 <= int(stated) <= _MOST_TOKENS:
        problem = f"The maximum length {stated[:20]!r} is no whole number from 1 to {_MOST_TOKENS:,}"
        raise SettingsError({"max_length": f"{problem}; give one such as 128."})
    return int(stated)
