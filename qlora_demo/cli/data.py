"""The command that looks into reviews before anything is trained on them: data.

It imports the engine when it runs, not before. Knows nothing of runs.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..core.config import RunConfig
from ..core.errors import SettingsError
from ..core.records import Columns
from . import lines
from .base import Output, add_command

_MOST_TOKENS = 100_000
_DATA_HELP = (
    "`sample`, a preset name, a file (.csv .tsv .json .jsonl .parquet, also .gz or .zip), a folder, or a Hub id."
)


def add_commands(commands: Any) -> None:
    data = add_command(
        commands, "data", run_data, "Report what is in reviews: rows, labels, lengths, and what is wrong with them."
    )
    data.add_argument("data", metavar="DATA", help=_DATA_HELP)
    add_reading(data)
    data.add_argument("--model", metavar="MODEL", default="sample", help="Whose tokens are counted [default sample].")
    data.add_argument("--max-length", metavar="N", help="Tokens kept of a review [default that of train].")


def add_reading(command: argparse.ArgumentParser) -> None:
    """The options that say how reviews are read, and which of a Hub's."""
    for name, what in (("text", "texts"), ("title", "titles, joined before the texts (- = none)"), ("label", "labels")):
        command.add_argument(
            f"--{name}", metavar="COL", default="", help=f"The column with the {what}; found by name without it."
        )
    command.add_argument(
        "--labels", metavar="LIST", help="The labels that count, in order, separated by commas, such as 1,2,3,4,5."
    )
    command.add_argument(
        "--encoding", metavar="NAME", default="", help="Such as utf-8, utf-16, cp1252 or cp850; found without it."
    )
    command.add_argument(
        "--delimiter", metavar="CHARACTER", default="", help="Of a text file's columns: , ; | or tab; found without it."
    )
    command.add_argument(
        "--header", action=argparse.BooleanOptionalAction, default=None, help="Whether the first row names the columns."
    )
    command.add_argument(
        "--mend", action="store_true", help="Turn HTML entities and mojibake into the characters they were."
    )
    for name in ("config", "split", "revision"):
        command.add_argument(f"--{name}", metavar=name.upper(), default="", help=f"The {name} of a Hub data set.")


def columns_of(options: argparse.Namespace) -> Columns:
    """They as Columns."""
    same = {
        name: getattr(options, name) for name in ("text", "title", "label", "encoding", "delimiter", "header", "mend")
    }
    return Columns(**same, labels=tuple(options.labels.split(",")) if options.labels else ())


def run_data(options: argparse.Namespace, out: Output) -> int:
    from ..engine.data import audit
    from ..engine.data import dataset as reviews_of
    from ..engine.models.modeling import load_tokenizer
    from ..engine.models.sources import resolve

    length = _max_length(options.max_length)
    found = reviews_of.read_all(
        os.path.expanduser(options.data), config=options.config, revision=options.revision, columns=columns_of(options)
    )
    found = found.only(options.split)
    tokenizer = load_tokenizer(resolve(options.model))
    report = audit.examine(found, tokenizer, min(length, tokenizer.model_max_length))
    out.show(report.to_dict(), lambda: lines.data_report(report))
    return 0


def _max_length(given: str | None) -> int:
    if given is None:
        return int(RunConfig.model_fields["max_length"].default)
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= _MOST_TOKENS:
        said = f"The maximum length {given[:20]!r} is no whole number from 1 to {_MOST_TOKENS:,}; give one such as 128."
        raise SettingsError({"max_length": said})
    return int(given)
