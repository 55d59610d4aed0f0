"""The commands doctor and memory: what this machine can do, and how much memory a model takes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from ..core.requests import MemoryRequest
from . import lines
from .base import Output, add_command, add_settings, given, open_services
from .events import Progress

WAYS = {
    "--predict": "From the configuration alone; no weights are needed.",
    "--measure": "By loading the model at each stage.",
}


def add_commands(commands: Any) -> None:
    add_command(commands, "doctor", run_doctor, "Report what this machine can do.")
    summary = "Report a model's memory at each stage of QLoRA, predicted and measured."
    model = {"model": {"metavar": "MODEL", "help": "`sample`, a Hub id, or a local folder."}}
    memory = add_command(commands, "memory", run_memory, summary, model)
    ways = memory.add_mutually_exclusive_group()
    for flag, text in WAYS.items():
        ways.add_argument(flag, action="store_true", help=text)
    add_settings(memory, MemoryRequest, without=("model",))


def run_doctor(options: argparse.Namespace, out: Output) -> int:
    facts = open_services().machine.doctor()
    out.show(asdict(facts), lambda: lines.machine(facts))
    return 0


def run_memory(options: argparse.Namespace, out: Output) -> int:
    request = MemoryRequest.read(given(options, MemoryRequest))
    ways = ("predicted",) if options.predict else ("measured",) if options.measure else ("predicted", "measured")
    report = open_services().memory.measure(request, Progress(out.note), ways)
    fields = {"version", "model", "parameters", "stages", "process", "step"}
    out.show(report.model_dump(mode="json", include=fields), lambda: lines.memory_table(report))
    return 0
