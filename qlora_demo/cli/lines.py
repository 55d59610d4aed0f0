"""Records as lines for people to read in a terminal: numbers with their units. Pure; knows no command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.data_report import DataReport, TokenLengths
from ..core.file_report import FileReport
from ..core.format import MISSING, duration, number, percent, shorten, size
from ..core.memory_report import MemoryReport, MemoryStage, StepReport
from ..core.records import Prediction, RunSummary
from ..core.run_report import Metrics
from ..services.compare import Compared

if TYPE_CHECKING:
    from ..engine.classify.explain import DeletionTest, Explanation
    from ..services.machine import Facts
    from ..services.publish import Export
    from ..storage.packs import Publication, PublishedFile

_WORDS, _BAR_WIDTH = 12, 24  # of an explanation: words of the highest scores in size; characters of the longest bar


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their content; all but the first aligned to the right where they hold numbers."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def run_table(runs: list[RunSummary], home: Path) -> str:
    """Summaries of runs, a row each."""
    if not runs:
        return f"There are no runs in {home} yet."
    columns: dict[str, Callable[[RunSummary], str]] = {
        "run": lambda run: run.run,
        "state": _state,
        "kind": lambda run: run.kind,
        "model": lambda run: shorten(str(run.model or MISSING), 40),
        "data": lambda run: shorten(str(run.data or MISSING), 40),
        "steps": _steps,
        "accuracy": lambda run: percent((run.metrics or {}).get("accuracy")),
    }
    return table(tuple(columns), [tuple(cell(run) for cell in columns.values()) for run in runs])


def compared_table(runs: list[Compared], reference: str) -> str:
    """Runs side by side, a row each."""
    if not runs:
        return "No run has a result yet."
    columns: dict[str, Callable[[Compared], str]] = {
        "run": lambda run: run.run,
        "accuracy": lambda run: percent(run.accuracy),
        "95 %": lambda run: "-".join(f"{100 * end:.0f}" for end in run.interval or ()) or MISSING,
        "stars off": lambda run: number(run.mae_stars, ".2f"),
        "trained in": lambda run: duration(run.seconds),
        "peak memory": lambda run: size(run.peak_bytes),
        "not beaten": lambda run: "yes" if run.unbeaten else "",
        f"differs from {reference}": lambda run: ", ".join(
            f"{name} {shorten(value, 40)}" for name, value in run.changes
        ),
    }
    return table(tuple(columns), [tuple(cell(run) for cell in columns.values()) for run in runs])


def run_details(run: RunSummary, folder: Path) -> str:
    metrics = run.metrics or {}
    facts = {
        "run": run.run,
        "state": _state(run),
        "model": run.model,
        "data": run.data,
        "created": datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M:%S"),
        "steps": _steps(run),
        "accuracy": f"{percent(metrics['accuracy'])} ({metrics.get('split')})" if "accuracy" in metrics else None,
        "error": run.error,
        "folder": folder,
    }
    return "\n".join(f"{name:<9} {value}" for name, value in facts.items() if value is not None)


def _state(run: RunSummary) -> str:
    if not run.position:
        return str(run.state)
    wait = f", in about {duration(run.wait_seconds)}" if run.wait_seconds is not None else ""
    return f"{run.state} (number {run.position}{wait})"


def _steps(run: RunSummary) -> str:
    return f"{run.steps_done}/{run.steps_total}" if run.steps_total else MISSING


def memory_table(report: MemoryReport) -> str:
    """Stages as rows; predicted beside measured where both are there."""
    stages: dict[str, dict[str, MemoryStage]] = {}
    for stage in report.stages:
        stages.setdefault(stage.name, {})[stage.source] = stage
    rows = []
    for name, by_source in stages.items():
        stage = by_source.get("measured") or by_source["predicted"]
        totals = (by_source.get(source) for source in ("predicted", "measured"))
        parts = (stage.weights_bytes, stage.constants_bytes, stage.buffers_bytes, stage.adapter_bytes)
        layers = f"{stage.quantized_layers}/{stage.quantized_layers + stage.kept_layers}"
        rows.append(
            (name, *(size(total.total_bytes if total else None) for total in totals), *map(size, parts), layers)
        )
    head = ("stage", "predicted", "measured", "weights", "constants", "buffers", "adapter", "layers quantized")
    return f"{report.model}: {report.parameters:,} parameters\n" + table(head, rows) + _step_line(report.step)


def _step_line(step: StepReport | None) -> str:
    """A training step: what it adds, predicted, and the peak beside its prediction where it was measured."""
    if not step:
        return ""
    budget = step.predicted
    if not budget:
        return f"\n{step.problem}"
    line = f"\nA step of {budget.batch_size} x {budget.length} tokens adds {size(budget.step_bytes)} (predicted)"
    if step.measured:
        error = f", the prediction errs by {100 * step.error:+.1f} %" if step.error is not None else ""
        line += f"; peak of the process {size(step.measured.peak_bytes)} (measured){error}"
    return f"{line}.{' ' + step.problem if step.problem else ''}"


def prediction(item: Prediction) -> str:
    stars = ""
    if item.stars is not None and item.expected_stars is not None:
        stars = f"{item.stars} of {len(item.probabilities)} stars ({item.expected_stars:.1f} expected)"
    cut = "  (the end was cut off)" if item.truncated else ""
    return f"{stars or item.label}  {percent(item.probabilities[item.label])} sure  {shorten(item.text)}{cut}"


def metrics(result: Metrics) -> str:
    """A line for each metric, with the 95 % interval where there is one."""
    rows: list[tuple[str, str, Callable[[float | None], str], str]] = [
        ("accuracy", "accuracy", percent, ""),
        ("macro F1", "macro_f1", number, ""),
        ("off by", "mae_stars", lambda value: number(value, ".2f"), " stars on average"),
        ("within one star", "within_one", percent, ""),
        ("quadratic kappa", "quadratic_kappa", number, ""),
    ]
    lines = [f"reviews          {result.rows:,} in {result.seconds:.1f} s"]
    for title, metric, words, unit in rows:
        if (value := getattr(result, metric)) is not None:
            ends = result.intervals.get(metric)
            interval = f"  (95 %: {words(ends[0])} to {words(ends[1])})" if ends else ""
            lines.append(f"{title:<15}  {words(value)}{unit}{interval}")
    error = result.calibration.ece if result.calibration else None
    return "\n".join([*lines, f"calibration      off by {number(error)} on average (expected calibration error)"])


def explanation(result: Explanation) -> str:
    """The words of the highest scores in size, and the deletion test."""
    strongest = sorted(result.words, key=lambda word: -abs(word.score))[:_WORDS]
    most = max((abs(word.score) for word in strongest), default=0) or 1
    others = len(result.words) - len(strongest)
    lines = [
        f"{result.label}  {percent(result.probability)} sure; words for it (+) and against it (-), in units of"
        " its logit:",
        *(f"{word.score:+8.3f}  {_bar(word.score / most)}  {shorten(word.text, 40)}" for word in strongest),
    ]
    lines += [f"          and {others:,} words of less weight"] if others else []
    if result.truncated:
        lines.append(f"The end was cut off: {result.seen:,} of {len(result.text):,} characters were read.")
    return "\n".join([*lines, _deletion_test(result.deletion_test, result.label)])


def _bar(share: float) -> str:
    return (("+" if share >= 0 else "-") * round(abs(share) * _BAR_WIDTH)).ljust(_BAR_WIDTH)


def _deletion_test(test: DeletionTest, label: str) -> str:
    if test.top is None or test.random is None:
        return f"Deletion test: {test.note}"
    times = f", {number(test.ratio, '.1f')} times as far" if test.ratio is not None else ""
    return (
        f"Deletion test: without the top {test.removed} of {test.words} words the probability of {label} moves by"
        f" {100 * test.top:.1f} points, without random ones by {100 * test.random:.1f}{times}. {test.note}"
    ).rstrip()


def file_notes(report: FileReport) -> list[str]:
    """What one should know of a classified file."""
    missing = report.without_prediction
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in missing.items())
    return [
        *([f"{sum(missing.values()):,} of {report.done:,} rows have no prediction: {reasons}."] if missing else []),
        *(
            f"Rows left out: {item.rows:,}, because of {item.reason} (line {', '.join(map(str, item.first_lines))})."
            for item in report.skipped
        ),
        *report.notes,
        *([report.judged, metrics(report.final["test"])] if report.final else []),
    ]


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


def machine(facts: Facts) -> str:
    """What `doctor` reports."""
    user = f", signed in as {facts.hub_user}" if facts.hub_user else ""
    rows = {
        "device": f"{facts.device} ({facts.device_name})",
        "reason": facts.device_reason,
        "compute dtype": facts.compute_dtype,
        "memory": size(facts.memory_bytes),
        "free disk": size(facts.free_disk_bytes),
        "bitsandbytes": "works" if facts.bitsandbytes else "does not work",
        "Hub": f"{'reachable' if facts.hub_reachable else 'not reachable'}{user}",
        "versions": "  ".join(f"{name} {version or 'absent'}" for name, version in facts.versions.items()),
    }
    return "\n".join(f"{name:<13}  {value}" for name, value in rows.items())


def publication(result: Publication, url: str | None) -> str:
    """A publication: the card where nothing was sent, the files, and where they are."""
    if url:
        return "\n".join([*_files(result.files), f"Published at {url}"])
    end = "Nothing was sent; without --dry-run these files are published."
    return "\n".join([result.card.rstrip(), "", *_files(result.files), end])


def export(result: Export) -> str:
    """What was written; for a merged model also how far it is from the adapter."""
    rows = _files(result.files)
    if merging := result.merging:
        rows += [
            f"On {merging.rows} reviews {merging.same_label:.1%} have the adapter's label; the logits differ by"
            f" at most {merging.max_logit_difference:.3g}, on average by {merging.mean_logit_difference:.2g}."
        ]
    return "\n".join([*rows, f"Written to {result.path}"])


def _files(files: Sequence[PublishedFile]) -> list[str]:
    return [f"{size(file.size_bytes):>12}  {file.name}" for file in files]
