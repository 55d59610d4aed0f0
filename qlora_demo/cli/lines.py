"""Records as lines for people to read in a terminal: numbers with their units. Pure; knows no command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..core.data_report import DataReport, TokenLengths
from ..core.format import MISSING, duration, number, percent, shorten, size
from ..storage.packs import Publication


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their content; all but the first aligned to the right where they hold numbers."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


class EventLines:
    """Events as lines; a phase whose progress hardly moved since its last line is passed over."""

    def __init__(self) -> None:
        self.text = ""
        self._phase: tuple[Any, ...] = ()

    def line(self, event: dict[str, Any]) -> bool:
        """Put the event's line into `text`; False where there is nothing worth a line."""
        kind = event["event"]
        if kind == "phase":
            progress = event.get("progress")
            seen = (event["name"], event.get("detail") if progress is None else int(progress * 10))
            if seen == self._phase:
                return False
            self._phase = seen
        self.text = _EVENTS[kind](event) if kind in _EVENTS else f"{kind}"
        return True


def _phase(event: dict[str, Any]) -> str:
    detail = f": {event['detail']}" if event.get("detail") else ""
    progress = f" ({100 * event['progress']:.0f} %)" if event.get("progress") is not None else ""
    return f"{event['name']}{detail}{progress}"


def _step(event: dict[str, Any]) -> str:
    return (
        f"  step {event['step']:>5}  epoch {event['epoch']:.2f}  loss {number(event['loss'])}  learning rate"
        f" {number(event['learning_rate'], '.2e')}  {number(event['reviews_per_second'], '.0f')} reviews/s "
        f" {size(event['memory_bytes'])}"
    )


def _evaluation(event: dict[str, Any]) -> str:
    stars = f"  off by {number(event['mae_stars'], '.2f')} stars" if event.get("mae_stars") is not None else ""
    return (
        f"{event['split']} after step {event['step']}: accuracy {percent(event['accuracy'])}  "
        f"macro F1 {number(event['macro_f1'])}  loss {number(event['loss'])}{stars}"
    )


def _probe(event: dict[str, Any]) -> str:
    label, share = max(event["probabilities"].items(), key=lambda item: item[1] or 0)
    return f"  probe after step {event['step']}: {label} ({percent(share)})  {shorten(event['text'])}"


def _memory(event: dict[str, Any]) -> str:
    return (
        f"memory {event['kind']}: predicted {size(event['predicted_bytes'])}, measured {size(event['measured_bytes'])}"
    )


def _finished(event: dict[str, Any]) -> str:
    report = f"; report: {event['report']}" if event.get("report") else ""
    return f"Run {event['run']} is {event['state']}{report}"


_EVENTS = {
    "phase": _phase,
    "step": _step,
    "evaluation": _evaluation,
    "probe": _probe,
    "memory": _memory,
    "resumed": lambda event: f"going on after step {event['step']}",
    "warning": lambda event: f"Note: {event['message']}",
    "finished": _finished,
}


def run_table(runs: list[dict[str, Any]], home: Path) -> str:
    if not runs:
        return f"There are no runs in {home} yet."
    head = ("run", "state", "kind", "model", "data", "steps", "accuracy")
    return table(
        head,
        [
            (
                run["run"],
                _state(run),
                run["kind"],
                shorten(str(run["model"] or MISSING), 40),
                shorten(str(run["data"] or MISSING), 40),
                _steps(run),
                percent((run["metrics"] or {}).get("accuracy")),
            )
            for run in runs
        ],
    )


def compared_table(found: list[dict[str, Any]], reference: str) -> str:
    """`found`: comparing.Compared as dictionaries."""
    if not found:
        return "No run has come to a result yet."
    head = (
        "run",
        "accuracy",
        "95 %",
        "stars off",
        "trained in",
        "peak memory",
        "not beaten",
        f"differs from {reference}",
    )
    return table(
        head,
        [
            (
                one["run"],
                percent(one["accuracy"]),
                "-".join(f"{100 * end:.0f}" for end in one["interval"] or ()) or MISSING,
                number(one["mae_stars"], ".2f"),
                duration(one["seconds"]),
                size(one["peak_bytes"]),
                "yes" if one["unbeaten"] else "",
                ", ".join(f"{name} {shorten(value, 40)}" for name, value in one["changes"]),
            )
            for one in found
        ],
    )


def run_details(run: dict[str, Any], folder: Path) -> str:
    metrics = run["metrics"] or {}
    shown = {
        "run": run["run"],
        "state": _state(run),
        "model": run["model"],
        "data": run["data"],
        "created": datetime.fromtimestamp(run["created"]).strftime("%Y-%m-%d %H:%M:%S"),
        "steps": _steps(run),
        "accuracy": f"{percent(metrics['accuracy'])} ({metrics.get('split')})" if "accuracy" in metrics else None,
        "error": run["error"],
        "folder": folder,
    }
    return "\n".join(f"{name:<9} {value}" for name, value in shown.items() if value is not None)


def _state(run: dict[str, Any]) -> str:
    if not run["position"]:
        return str(run["state"])
    wait = f", in about {duration(run['wait_seconds'])}" if run.get("wait_seconds") is not None else ""
    return f"{run['state']} (number {run['position']}{wait})"


def _steps(run: dict[str, Any]) -> str:
    return f"{run['steps_done']}/{run['steps_total']}" if run["steps_total"] else MISSING


def memory_table(result: dict[str, Any]) -> str:
    """Stages as rows; predicted beside measured where both are there."""
    stages: dict[str, dict[str, dict[str, Any]]] = {}
    for stage in result["stages"]:
        stages.setdefault(stage["name"], {})[stage["source"]] = stage
    parameters = f"{result['parameters']:,} parameters" if result.get("parameters") is not None else "size unknown"
    rows = []
    for name, by_source in stages.items():
        stage = by_source.get("measured") or by_source["predicted"]
        totals = tuple(
            size(by_source[source]["total_bytes"]) if source in by_source else MISSING
            for source in ("predicted", "measured")
        )
        rows.append(
            (
                name,
                *totals,
                *(size(stage[f"{part}_bytes"]) for part in ("weights", "constants", "buffers", "adapter")),
                f"{stage['quantized_layers']}/{stage['quantized_layers'] + stage['kept_layers']}",
            )
        )
    head = ("stage", "predicted", "measured", "weights", "constants", "buffers", "adapter", "layers quantized")
    return f"{result['model']}: {parameters}\n" + table(head, rows) + _step_line(result.get("step"))


def _step_line(step: dict[str, Any] | None) -> str:
    """A training step: what it adds, predicted, and the peak beside its prediction where it was measured."""
    if not step:
        return ""
    budget, reading = step["predicted"], step["measured"]
    if not budget:
        return f"\n{step['problem']}"
    line = (
        f"\nA step of {budget['batch_size']} x {budget['length']} tokens adds {size(budget['step_bytes'])} (predicted)"
    )
    if reading:
        line += (
            f"; peak of the process {size(reading['peak_bytes'])} (measured), the prediction errs by"
            f" {100 * step['error']:+.1f} %"
        )
    return f"{line}.{' ' + step['problem'] if step['problem'] else ''}"


def prediction(item: dict[str, Any]) -> str:
    stars = ""
    if item["stars"] is not None:
        stars = f"{item['stars']} of {len(item['probabilities'])} stars ({item['expected_stars']:.1f} expected)"
    cut = "  (the end was cut off)" if item["truncated"] else ""
    return (
        f"{stars or item['label']}  {percent(item['probabilities'][item['label']])} sure  {shorten(item['text'])}{cut}"
    )


def metrics(result: dict[str, Any]) -> str:
    """A line for each metric, with the 95 % interval where there is one."""

    def line(title: str, metric: str, words: Callable[[float | None], str], unit: str = "") -> str:
        ends = result["intervals"].get(metric)
        sure = f"  (95 %: {words(ends[0])} to {words(ends[1])})" if ends else ""
        return f"{title:<15}  {words(result[metric])}{unit}{sure}"

    lines = [
        f"reviews          {result['rows']:,} in {result['seconds']:.1f} s",
        line("accuracy", "accuracy", percent),
        line("macro F1", "macro_f1", number),
    ]
    if result["mae_stars"] is not None:
        lines += [
            line("off by", "mae_stars", lambda value: number(value, ".2f"), " stars on average"),
            line("within one star", "within_one", percent),
            line("quadratic kappa", "quadratic_kappa", number),
        ]
    lines.append(
        f"calibration      off by {number(result['calibration'].get('ece'))} on average (expected calibration error)"
    )
    return "\n".join(lines)


def data_report(report: DataReport) -> str:
    """The report of a data source: how it was read, labels, lengths, what was left out, what to mind."""
    facts = {
        "reviews": f"{report.used:,} of {report.rows:,} rows",
        "read as": ", ".join(map(str, filter(None, (report.format, report.encoding, _delimited(report))))),
        "columns": ", ".join(
            f"{name!r} is the {what}"
            for what in ("text", "title", "label")
            if (name := getattr(report, f"{what}_column")) is not None
        ),
        "labels": report.label_rule,
        "tokens": _token_line(report.tokens),
        "languages": ", ".join(f"{name} {percent(share)}" for name, share in list(report.languages.items())[:4]),
        "repeated": f"{report.duplicates:,} reviews; {report.contradicting:,} with different labels",
        "damaged": (f"{report.entities:,} with HTML entities, {report.garbled:,} with letters from a wrong encoding"),
    }
    parts = ["\n".join(f"{name:<10} {value}" for name, value in facts.items() if value)]
    if report.labels:
        splits = tuple(report.balance)
        parts.append(
            table(
                ("label", *splits),
                [(label, *(f"{report.balance[split][label]:,}" for split in splits)) for label in report.labels],
            )
        )
    if report.skipped:
        parts.append(
            table(
                ("left out", "rows", "first lines"),
                [(item.reason, f"{item.rows:,}", ", ".join(map(str, item.first_lines))) for item in report.skipped],
            )
        )
    for item in report.contradictions:
        parts.append(f"{', '.join(f'{label} ({rows:,})' for label, rows in item.labels.items())}  {shorten(item.text)}")
    return "\n\n".join([*parts, *(f"Note: {warning}" for warning in report.warnings)])


def _delimited(report: DataReport) -> str:
    name = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe"}.get(
        report.delimiter or "", repr(report.delimiter)
    )
    header = {True: "with a header", False: "without a header", None: ""}[report.header]
    return ", ".join(filter(None, (f"delimiter {name}" if report.delimiter else "", header)))


def _token_line(tokens: TokenLengths | None) -> str:
    if tokens is None:
        return ""
    cut = (
        f"{percent(tokens.truncated)} longer than {tokens.max_length}, which costs {percent(tokens.cut)} of all tokens"
    )
    sample = f" (of {tokens.reviews:,} reviews, chosen at random)" if tokens.sampled else ""
    return f"half have up to {tokens.p50}, 95 % up to {tokens.p95}, the longest {tokens.max:,}; {cut}{sample}"


def machine(facts: dict[str, Any]) -> str:
    user = f", signed in as {facts['hub_user']}" if facts["hub_user"] else ""
    return "\n".join(
        [
            f"device         {facts['device']} ({facts['device_name']})",
            f"reason         {facts['device_reason']}",
            f"compute dtype  {facts['compute_dtype']}",
            f"memory         {size(facts['memory_bytes'])}",
            f"free disk      {size(facts['free_disk_bytes'])}",
            f"bitsandbytes   {'works' if facts['bitsandbytes'] else 'does not work'}",
            f"Hub            {'reachable' if facts['hub_reachable'] else 'not reachable'}{user}",
            "versions       "
            + "  ".join(f"{name} {version or 'absent'}" for name, version in facts["versions"].items()),
        ]
    )


def told_files(made: Publication) -> list[dict[str, Any]]:
    """A publication's files as `--json` tells them."""
    return [{"name": file.name, "size_bytes": file.size_bytes} for file in made.files]


def file_rows(files: Sequence[dict[str, Any]]) -> list[str]:
    """Those files as lines: size and name."""
    return [f"{size(file['size_bytes']):>12}  {file['name']}" for file in files]
