"""A run as HTML: its results, and what deleting it would remove. Pure."""

from __future__ import annotations

from ...core.format import metric
from ...core.names import BASELINES, METRICS
from ...core.run_report import Metrics, RunReport
from ..templating import render


def view_report(report: RunReport | None) -> str:
    """A run's result: the adapter beside its untrained head and the baselines, and the reload proof."""
    if report is None or "test" not in report.final:
        return ""
    test, memory = report.final["test"], report.memory
    started = {"The adapter it started from": report.start} if report.start else {}
    baselines = {BASELINES.get(name, name): metrics for name, metrics in report.baselines.items()}
    models = {"This run": test, **started, "Untrained head": report.base, **baselines}
    return render(
        "train/report.html.jinja",
        report=report,
        rows=test.rows,
        titles=[title for title, _ in METRICS.values()],
        models=[(name, [_cell(metrics, metric_name) for metric_name in METRICS]) for name, metrics in models.items()],
        error=100 * ((memory.predicted_peak_bytes or 0) / memory.peak_bytes - 1) if memory.peak_bytes else 0.0,
        has_intervals=bool(test.intervals),
        is_sample=report.data.name.startswith("sample"),
    )


def _cell(metrics: Metrics, name: str) -> tuple[str, str]:
    """A number of the table, and its interval; coarser than the number, whose last digit is what it puts in doubt."""
    form = METRICS[name][1]
    ends = metrics.intervals.get(name)
    interval = "–".join(f"{100 * end:.0f}" if form == "%" else f"{end:.2f}" for end in ends) if ends else ""
    return metric(getattr(metrics, name), form), interval


def view_delete_run(name: str, size_bytes: int) -> str:
    """What deleting a run would remove, asked before it happens."""
    return render("train/delete_run.html.jinja", name=name, size_bytes=size_bytes)
