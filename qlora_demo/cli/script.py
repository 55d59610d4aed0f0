"""The command script: a run as one Python script that repeats it with the libraries alone."""

from __future__ import annotations

import argparse
from typing import Any

from .base import Output, add_command, open_services
from .train import RUN


def add_commands(commands: Any) -> None:
    summary = "Print a Python script that repeats a run with the libraries alone."
    add_command(commands, "script", run_script, summary, RUN)


def run_script(options: argparse.Namespace, out: Output) -> int:
    text = open_services().publish.script(options.run)
    out.show({"script": text}, lambda: text.rstrip("\n"))
    return 0
