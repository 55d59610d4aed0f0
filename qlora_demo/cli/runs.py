"""The commands about runs: train, resume, runs, compare, show, stop.

They speak to the job store only; training itself happens in a worker, which a closed terminal does not end.
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

from ..core.config import RunConfig, refuse_changes
from ..core.errors import RunError, SettingsError
from ..core.paths import absolute_settings
from ..core.presets import PRESETS
from ..host.environment import default_home
from ..jobs import queue
from ..jobs.store import Job, Store
from ..services.compare import compare
from . import lines
from .base import PROGRAM, Output, add_command


def add_commands(commands: Any) -> None:
    train = add_command(commands, "train", run_train, "Train a classifier and follow the run; Ctrl-C asks it to stop.")
    train.add_argument("--config", metavar="FILE", help="Settings as a JSON object; the options below override it.")
    train.add_argument("--preset", metavar="NAME", help=f"Start from a ready run: {', '.join(PRESETS)}.")
    _add_settings(train)
    add_command(commands, "runs", run_runs, "List the runs, newest first.")
    for name, command, summary in (
        ("compare", run_compare, "Hold all runs that have a result against one."),
        ("show", run_show, "Show one run."),
        ("stop", run_stop, "Ask a run to stop."),
        ("resume", run_resume, "Go on with a run that was stopped or interrupted, and follow it."),
    ):
        parser = add_command(commands, name, command, summary)
        parser.add_argument("run", metavar="RUN", help="The run's id.")
        if name == "resume":
            _add_settings(
                parser, "A run goes on with its own settings: others are refused, with a list of what differs."
            )


def run_train(options: argparse.Namespace, out: Output) -> int:
    """Submit, then follow to the end: 0 done or stopped, 1 failed, interrupted or left running."""
    from ..engine.models import sources

    config = read_config(options)
    sources.check_local(config.model)
    store = Store(default_home())
    with _counted_interrupts() as interrupts:
        job = queue.submit(store, "train", config.to_dict())
        out.note(f"Run {job.id} in {job.folder}; Ctrl-C asks it to stop.")
        if (place := queue.position(store, job)) is not None:
            out.note(f"The device is busy; the run is number {place} in the waiting line.")
        return follow_run(store, job, out, interrupts)


def run_resume(options: argparse.Namespace, out: Output) -> int:
    """Back into the line, then as `run_train`, from the event that says so."""
    store = Store(default_home())
    job = store.job(options.run)
    if given := _given(options):
        refuse_changes(RunConfig.read({**job.settings(), **absolute_settings(given)}), RunConfig.read(job.settings()))
    told = job.last_event()
    with _counted_interrupts() as interrupts:
        queue.resume(store, options.run)
        out.note(f"Run {job.id} goes on from its last checkpoint; Ctrl-C asks it to stop.")
        return follow_run(store, job, out, interrupts, after=told["seq"] if told else 0)


def follow_run(store: Store, job: Job, out: Output, interrupts: list[int], after: int = 0) -> int:
    """Print the run's events after number `after` until its end; the first interrupt asks it to stop, a second one
    leaves it alone.
    """
    asked = False
    printer = lines.EventLines()
    for batch in queue.follow(store, job, after):
        for record in batch:
            if out.as_json or printer.line(record):
                out.show(record, lambda: printer.text)
        if len(interrupts) > 1:
            out.note(f"Run {job.id} goes on in the background; `{PROGRAM} show {job.id}` tells how it fares.")
            return 1
        if interrupts and not asked:
            asked = True
            out.note(f"Asked run {job.id} to stop after its current step; Ctrl-C again leaves it to itself.")
            # It may have ended meanwhile.
            with suppress(RunError):
                queue.stop(store, job.id)
    state = job.state()
    if state.state in ("done", "stopped"):
        return 0
    out.note(state.error or f"Run {job.id} ended as {state.state}.")
    return 1


def run_runs(options: argparse.Namespace, out: Output) -> int:
    store = Store(default_home())
    # A home that can only be read can still be listed.
    with suppress(RunError):
        queue.advance(store)
    found = [job.summary() for job in store.jobs()]
    out.show(found, lambda: lines.run_table(found, store.home))
    return 0


def run_compare(options: argparse.Namespace, out: Output) -> int:
    store = Store(default_home())
    found = [asdict(one) for one in compare(store.states("train"), store.job(options.run))]
    out.show(found, lambda: lines.compared_table(found, options.run))
    return 0


def run_show(options: argparse.Namespace, out: Output) -> int:
    store = Store(default_home())
    job = store.job(options.run)
    with suppress(RunError):
        queue.advance(store)
    summary = job.summary()
    out.show(summary, lambda: lines.run_details(summary, job.folder))
    return 0


def run_stop(options: argparse.Namespace, out: Output) -> int:
    store = Store(default_home())
    queue.stop(store, options.run)
    summary = store.job(options.run).summary()
    out.show(summary, lambda: f"Run {options.run} is asked to stop; it is {summary['state']}.")
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
    given = _given(options)
    if "epochs" in given:
        # Asked for by epochs: a limit in steps from the file would win over it.
        fields["max_steps"] = 0
    return RunConfig.read(absolute_settings(fields | given))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings named on the command line."""
    return {name: value for name in RunConfig.model_fields if (value := getattr(options, name)) is not None}


def _add_settings(parser: argparse.ArgumentParser, summary: str = "") -> None:
    """One option for each field; values stay strings, so that RunConfig alone judges them."""
    settings = parser.add_argument_group("settings", summary)
    length = settings.add_mutually_exclusive_group()
    for name, field in RunConfig.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        limits = RunConfig.bounds(name)
        span = (
            f"{limits.minimum:g} to {limits.maximum:g}; "
            if limits.maximum is not None and limits.minimum is not None
            else ""
        )
        text = f"{field.description} [{span}default {field.default!r}]".replace("%", "%%")
        if field.annotation is bool:
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            group = length if name in ("epochs", "max_steps") else settings
            group.add_argument(
                flag, metavar="|".join(RunConfig.choices(name)) or name.rpartition("_")[2].upper(), help=text
            )


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
