"""The command script: a run as one Python script that repeats it with the libraries alone, and its reviews."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .base import Output, add_command, open_services
from .train import RUN


def add_commands(commands: Any) -> None:
    summary = "Print a Python script that repeats a run with the libraries alone."
    script = add_command(commands, "script", run_script, summary, RUN)
    script.add_argument("--reviews", metavar="FILE", default="", help="Also write the reviews that the script reads.")


def run_script(options: argparse.Namespace, out: Output) -> int:
    service = open_services().publish
    text = service.script(options.run)
    if options.reviews:
        rows = service.write_reviews(options.run, Path(options.reviews).expanduser())
        out.note(f"{rows:,} reviews written to {options.reviews}")
    out.show({"script": text}, lambda: text.rstrip("\n"))
    return 0
