"""The card of an adapter, written from its report and its run's events alone: no number that was not measured.

Its text is the template card.md.jinja; here its tables are made. Whatever a user has written is shown and never
interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..core.format import number, size
from ..core.names import BASELINES, MEMORY_PARTS, METRICS
from ..core.run_report import DataSummary, Metrics, RunMemory, RunReport
from .figures import Drawing
from .history import PinnedReview
from .loading import write_snippet
from .markdown import plain, table
from .metadata import AMAZON, SAMPLES, hub_base, hub_data, write_metadata
from .script import write_command
from .templating import render

_MOST_LABELS = 12  # of a confusion matrix that is still read
_ROWS = {
    "adapter": "This adapter",
    "base": "Untrained head",
    "untrained head": "Untrained head",
    "start": "The adapter it started from",
    **BASELINES,
}
_MEASURED_NOTES = {
    "real reviews test": " They are from shops and hotels, were not used for training, and are not in this repository.",
    "sample test": " Word counts fitted here on all training reviews of the sample.",
}


def write_card(
    report: RunReport,
    base_name: str,
    *,
    licence: str = "",
    repo: str = "",
    revision: str = "",
    max_length: int = 0,
    pinned: Sequence[PinnedReview] = (),
    figures: Sequence[Drawing] = (),
    script: str = "",
) -> str:
    """README.md of an adapter: metadata that the Hub understands, its evaluation, its training, and how to load and
    reproduce it.

    licence: the Hub's name of it, "" = none chosen. repo: where it will lie; revision: the base's commit; max_length:
    in tokens, 0 = as in the run's settings. figures and script: files beside the card. HubError for an unknown
    licence."""
    base, data, config, test = hub_base(base_name), report.data, report.config, report.final["test"]
    method = "QLoRA" if config.precision.startswith("nf4") else "LoRA"
    title = f"{'Star ratings' if data.ordinal else 'Text labels'} by {method} on {base or 'a local model'}"
    named = repo.rpartition("/")[2] or title
    on_hub = hub_data(report)
    compared = {"adapter": test, "base": report.base, **({"start": report.start} if report.start else {})}
    text = render(
        "card.md.jinja",
        report=report,
        config=config,
        data=data,
        test=test,
        training=report.training,
        proof=report.reload,
        memory=report.memory,
        title=title,
        metadata=write_metadata(report, base_name, title=named, licence=licence, revision=revision),
        base=base,
        revision=revision,
        compared=(compared | report.baselines).items(),
        metrics_table=_metrics_table,
        measured_notes=_MEASURED_NOTES,
        confusion=_confusion(test, data.labels),
        figures=figures,
        pinned=_pinned(pinned),
        parts=_memory_parts(report.memory),
        peaks=_peaks(report.memory),
        snippet=write_snippet(report, base_name, repo=repo, revision=revision, max_length=max_length),
        command=write_command(config.to_dict()),
        script=script,
        sample=config.data in SAMPLES,
        on_hub=on_hub,
        amazon=on_hub in AMAZON,
        reviews=_reviews(data),
        max_length=max_length or config.max_length,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _metrics_table(rows: Iterable[tuple[str, Metrics]]) -> str:
    head = ("", *(title for title, _ in METRICS.values()))
    return table(head, ([_ROWS.get(name, plain(name)), *_cells(metrics)] for name, metrics in rows))


def _cells(metrics: Metrics) -> list[str]:
    """The metrics with their intervals, where they have one."""
    cells = []
    for name in METRICS:
        ends = metrics.intervals.get(name)
        cells.append(number(getattr(metrics, name)) + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""))
    return cells


def _confusion(test: Metrics, known: Sequence[str]) -> str:
    labels = [plain(label) for label in test.labels or known]
    if not test.confusion or len(labels) != len(test.confusion) or len(labels) > _MOST_LABELS:
        return ""
    rows = ([f"**{label}**", *map(str, line)] for label, line in zip(labels, test.confusion, strict=True))
    return table(["", *labels], rows)


def _pinned(reviews: Sequence[PinnedReview]) -> str:
    if not reviews:
        return ""
    labels = list(reviews[0].before)
    rows = (
        [plain(review.text) if when == "before step 1" else "", when, *(number(shares.get(label)) for label in labels)]
        for review in reviews
        for when, shares in (("before step 1", review.before), (f"step {review.step}", review.after))
    )
    return table(["review", "when", *map(plain, labels)], rows)


def _memory_parts(memory: RunMemory) -> str:
    """The ledger: the loaded model, measured, beside a training step, predicted."""
    parts = {**MEMORY_PARTS, "total": "total"}
    columns = [[getattr(column, f"{part}_bytes", None) for part in parts] for column in (memory.model, memory.budget)]
    rows = zip(parts.values(), *columns, strict=True)
    return table(
        ["", "the model, measured", "a step, predicted"],
        ([name, *("" if value is None else f"{value:,}" for value in values)] for name, *values in rows),
    )


def _peaks(memory: RunMemory) -> str:
    peaks = (
        ("measured", memory.peak_bytes),
        ("predicted", memory.predicted_peak_bytes),
        ("before step 1", memory.standing_bytes),
    )
    return table(["", "bytes"], ([f"{name} ({size(value)})", f"{value:,}"] for name, value in peaks if value))


def _reviews(data: DataSummary) -> str:
    """How many reviews each split has, by label where that is known."""
    rows = [["all", *(f"{count:,}" for count in data.rows.values())]]
    if data.balance:
        for i, label in enumerate(data.labels):
            rows.append([plain(label), *(f"{data.balance[split][i]:,}" for split in data.rows)])
    return table(["reviews", *data.rows], rows)
