"""The commands about runs: train, resume, runs, compare, show, stop, script.

Training itself happens in a worker, which a closed terminal does not end.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.config import RunConfig
from ..core.errors import RunError, SettingsError
from ..core.presets import PRESETS
from ..services.train import TrainService
from . import events, lines
from .base import PROGRAM, Options, Output, add_command, add_settings, given, open_services

RUN: Options = {"run": {"metavar": "RUN", "help": "The run's id."}}
START: Options = {
    "--config": {"metavar": "FILE", "help": "Settings as a JSON object; the options below override it."},
    "--preset": {"metavar": "NAME", "help": f"Start from a ready run: {', '.join(PRESETS)}."},
}


def add_commands(commands: Any) -> None:
    train = add_command(
        commands, "train", run_train, "Train a classifier and follow the run; Ctrl-C asks it to stop.", START
    )
    _add_settings(train)
    add_command(commands, "runs", run_runs, "List the runs, newest first.")
    add_command(commands, "compare", run_compare, "Compare all runs that have a result with one.", RUN)
    add_command(commands, "show", run_show, "Show one run.", RUN)
    add_command(commands, "stop", run_stop, "Ask a run to stop.", RUN)
    resume = add_command(
        commands, "resume", run_resume, "Continue a run that was stopped or interrupted, and follow it.", RUN
    )
    _add_settings(resume, "A run continues with its own settings: others are refused, with a list of what differs.")


def run_train(options: argparse.Namespace, out: Output) -> int:
    """Submit, then follow to the end: 0 done or stopped, 1 failed, interrupted or left running."""
    config, runs = read_config(options), open_services().train
    with _counted_interrupts() as interrupts:
        run = runs.start(config).run
        out.note(f"Run {run} in {runs.folder(run)}; Ctrl-C asks it to stop.")
        if (position := runs.summary(run).position) is not None:
            out.note(f"The device is busy; the run is number {position} in the queue.")
        return follow_run(runs, run, out, interrupts)


def run_resume(options: argparse.Namespace, out: Output) -> int:
    """Back into the queue, then as `run_train`, from the event that says so."""
    runs, run = open_services().train, options.run
    fields, last = given(options, RunConfig), runs.last_event_number(run)
    with _counted_interrupts() as interrupts:
        runs.resume(
            run, "", RunConfig.read({**runs.settings(run).to_dict(), **fields}) if fields else None, at_home=True
        )
        out.note(f"Run {run} continues from its last checkpoint; Ctrl-C asks it to stop.")
        return follow_run(runs, run, out, interrupts, after=last)


def follow_run(runs: TrainService, run: str, out: Output, interrupts: list[int], after: int = 0) -> int:
    """Print the run's events after number `after` until its end; the first interrupt asks it to stop, a second one
    leaves it alone.
    """
    asked = False
    printer = events.EventLines()
    for batch in runs.follow(run, after):
        for record in batch:
            if out.as_json or printer.line(record):
                out.show(record, lambda: printer.text)
        if len(interrupts) > 1:
            out.note(f"Run {run} continues in the background; `{PROGRAM} show {run}` reports on it.")
            return 1
        if interrupts and not asked:
            asked = True
            out.note(f"Asked run {run} to stop after its current step; Ctrl-C again leaves it running.")
            # It may have ended meanwhile.
            with suppress(RunError):
                runs.stop(run, at_home=True)
    summary = runs.summary(run)
    if summary.state in ("done", "stopped"):
        return 0
    out.note(summary.error or f"Run {run} ended as {summary.state}.")
    return 1


def run_runs(options: argparse.Namespace, out: Output) -> int:
    services = open_services()
    summaries = services.train.summaries()
    out.show([one.to_dict() for one in summaries], lambda: lines.run_table(summaries, services.host.home))
    return 0


def run_compare(options: argparse.Namespace, out: Output) -> int:
    compared = open_services().train.compare(options.run, {})
    out.show([asdict(one) for one in compared], lambda: lines.compared_table(compared, options.run))
    return 0


def run_show(options: argparse.Namespace, out: Output) -> int:
    runs = open_services().train
    summary = runs.summary(options.run)
    out.show(summary.to_dict(), lambda: lines.run_details(summary, runs.folder(options.run)))
    return 0


def run_stop(options: argparse.Namespace, out: Output) -> int:
    runs = open_services().train
    runs.stop(options.run, at_home=True)
    summary = runs.summary(options.run)
    out.show(summary.to_dict(), lambda: f"Run {options.run} is asked to stop; it is {summary.state}.")
    return 0


def read_config(options: argparse.Namespace) -> RunConfig:
    """The settings from preset, file and options, each overriding the one before. Raises DemoErrors."""
    fields: dict[str, Any] = {}
    if options.preset is not None:
        if options.preset not in PRESETS:
            raise SettingsError(
                {"preset": f"There is no preset {options.preset!r}; choose one of {', '.join(PRESETS)}."}
            )
        fields |= PRESETS[options.preset].config.to_dict()
    if options.config is not None:
        fields |= _read_file(Path(options.config))
    stated = given(options, RunConfig)
    if "epochs" in stated:
        # Asked for by epochs: a limit in steps from the file would win over it.
        fields["max_steps"] = 0
    return RunConfig.read(fields | stated)


def _add_settings(parser: argparse.ArgumentParser, summary: str = "") -> None:
    settings = parser.add_argument_group("settings", summary)
    length = ("epochs", "max_steps")
    add_settings(settings, RunConfig, without=length)
    others = tuple(name for name in RunConfig.model_fields if name not in length)
    add_settings(settings.add_mutually_exclusive_group(), RunConfig, without=others)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError({"config": f"The settings file {path} cannot be read: {error.strerror}."}) from None
    except ValueError as error:
        raise SettingsError({"config": f"The settings file {path} is not JSON: {error}."}) from None
    if not isinstance(value, dict):
        raise SettingsError({"config": f'The settings file {path} holds no JSON object; write {{"rank": 8, ...}}.'})
    return value


@contextmanager
def _counted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C appends to the list instead of raising anywhere in the middle of things."""
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
