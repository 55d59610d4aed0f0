"""The command line: `python -m qlora_demo COMMAND`; `--help` lists the commands.

Exit status: 0 done (or stopped on request), 2 the user's mistake (one sentence, no traceback), 1 a failed run or the
unexpected. Knows only how to find and call a command; heavy libraries are imported by those that need them.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings

from . import __version__
from .cli import classify, data, memory, publish, script, train
from .cli.base import PROGRAM, Output, Parser, clean_stdout
from .core.errors import DemoError, SettingsError
from .engine import quiet
from .host.environment import limit_threads
from .worker import explain


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        options = build_parser().parse_args(arguments)
        if options.command is None:
            raise SettingsError({"command": f"No command given; `{PROGRAM} --help` lists them."})
        if options.runs_dir is not None:
            # By the environment, because the engine and the worker must look in the same place.
            os.environ["QLORA_DEMO_HOME"] = os.path.abspath(os.path.expanduser(options.runs_dir))
        _calm()
        limit_threads()
        with clean_stdout() as stream:
            return int(options.command(options, Output(stream, options.json)))
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except Exception as error:
        sentence = explain(error)
        if sentence.startswith("Unexpected"):
            traceback.print_exc()
        print(sentence, file=sys.stderr)
        return 1


def build_parser() -> Parser:
    """The parser with all commands; parse errors raise SettingsError."""
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for column in (memory, data, train, classify, publish, script):
        column.add_commands(commands)
    return parser


def _calm() -> None:
    """Keep libraries from chatting on standard error; before they are imported."""
    quiet()
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
