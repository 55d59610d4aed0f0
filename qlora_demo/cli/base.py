"""What every command needs: a parser that speaks in sentences, options from tables and settings, and clean output.

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
from ..core.format import to_json
from ..core.requests import Settings
from ..host.environment import default_home
from ..services.app import Services

PROGRAM = "python -m qlora_demo"
ADAPTER = "`sample` (the shipped one), a run's id, a local folder, or a Hub id."


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
Options = dict[str, dict[str, Any]]  # by name or flag: the arguments of argparse's add_argument


def open_services() -> Services:
    """The same services as the page's, for the runs in QLORA_DEMO_HOME or --runs-dir."""
    return Services.at(default_home())


def add_command(
    commands: Any, name: str, command: Command, summary: str, options: Options | None = None
) -> argparse.ArgumentParser:
    """A command's parser, with its own options and those that all commands share."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(command=command)
    add_options(parser, options or {})
    parser.add_argument("--json", action="store_true", help="Print JSON on standard output, and nothing else there.")
    parser.add_argument("--runs-dir", metavar="DIR", help="Use this folder in place of QLORA_DEMO_HOME.")
    return parser


def add_options(parser: Any, options: Options) -> None:
    for name, about in options.items():
        parser.add_argument(name, **about)


def add_settings(parser: Any, settings: type[Settings], without: tuple[str, ...] = ()) -> None:
    """One option for each field; values stay strings, so that the settings alone judge them."""
    for name, field in settings.model_fields.items():
        if name in without:
            continue
        flag, limits = f"--{name.replace('_', '-')}", settings.bounds(name)
        span = f"{limits.minimum:g} to {limits.maximum:g}; " if None not in (limits.minimum, limits.maximum) else ""
        default = ",".join(field.default) if name == "stages" else repr(field.default)
        text = f"{field.description} [{span}default {default}]".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            metavar = "|".join(settings.choices(name)) or name.rpartition("_")[2].upper()
            parser.add_argument(flag, metavar=metavar, help=text)


def given(options: argparse.Namespace, settings: type[Settings]) -> dict[str, Any]:
    """The fields named on the command line."""
    return {name: value for name in settings.model_fields if (value := getattr(options, name, None)) is not None}


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
