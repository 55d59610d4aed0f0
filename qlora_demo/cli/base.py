"""What every command needs: a parser that speaks in sentences, and an output that keeps standard output clean.

Knows no command.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from ..core.errors import SettingsError
from ..jobs.store import to_json

PROGRAM = "python -m qlora_demo"


class Parser(argparse.ArgumentParser):
    """Raises SettingsError with one sentence instead of printing a usage box."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        # -1e-3 is a value to be judged, too; before Python 3.14 it is taken for an option, and the one before it for em
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        raise SettingsError({"command": f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`."})


@dataclass(frozen=True)
class Output:
    """Where a command speaks: `stream` is standard output, for results only; notes go to standard error."""

    stream: TextIO
    as_json: bool

    def show(self, value: Any, text: Callable[[], str]) -> None:
        """One result: as one line of JSON, or as `text` where people read."""
        print(to_json(value) if self.as_json else text(), file=self.stream, flush=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


Command = Callable[[argparse.Namespace, Output], int]


def add_command(commands: Any, name: str, command: Command, summary: str) -> argparse.ArgumentParser:
    """A command's parser, with the options that all commands share."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="Print JSON on standard output, and nothing else there.")
    parser.add_argument("--runs-dir", metavar="DIR", help="Use this folder in place of QLORA_DEMO_HOME.")
    return parser


@contextmanager
def clean_stdout() -> Iterator[TextIO]:
    """Standard output for results alone: what libraries print, from C too, goes to standard error meanwhile."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    stream = os.fdopen(os.dup(kept), "w", encoding=sys.stdout.encoding or "utf-8", errors="backslashreplace")
    try:
        with redirect_stdout(sys.stderr):
            yield stream
    finally:
        # The reader may have gone (`| head`): not an error worth words.
        with suppress(BrokenPipeError):
            stream.close()
        os.dup2(kept, 1)
        os.close(kept)
