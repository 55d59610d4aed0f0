"""The command script: a run as one Python script that repeats it with the libraries alone.

Knows where runs lie, not what is in the script.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..core.errors import RunError
from ..host.environment import default_home
from ..jobs.store import Store
from .base import PROGRAM, Output, add_command


def add_commands(commands: Any) -> None:
    script = add_command(
        commands, "script", run_script, "Print a Python script that repeats a run with the libraries alone."
    )
    script.add_argument("run", metavar="RUN", help="The run's id.")


def run_script(options: argparse.Namespace, out: Output) -> int:
    from ..hub.publication import write_run_script

    job = Store(default_home()).job(options.run)
    if job.state().kind != "train":
        raise RunError(f"The run {job.id} trained nothing; name one that did (`{PROGRAM} runs` lists them).")
    text = write_run_script(job.settings(), job.report(), job.folder / "adapter")
    out.show({"script": text}, lambda: text.rstrip("\n"))
    return 0
