"""What is in a data source, as HTML: numbers, labels, lengths, conflicts, languages, encoding errors. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.data_report import DataReport
from ..templating import render

Bar = tuple[float, float, float, bool]  # x, width and height in pixels; whether its reviews are truncated
BINS = 48
WIDTH, HEIGHT = 480.0, 120.0  # pixels of the histogram's view box
MIN_LANGUAGE_SHARE = 0.02  # a smaller share goes to the others: detection errs that often


def view_part(part: str, report: DataReport) -> str:
    """A part that needs nothing but the report: summary, warnings, balance, left_out or conflicts."""
    return render(f"data/{part}.html.jinja", report=report)


def view_languages(report: DataReport) -> str:
    """The languages as far as they can be detected, the rare ones together."""
    common = {code: share for code, share in report.languages.items() if share >= MIN_LANGUAGE_SHARE}
    others = 1 - sum(common.values()) if report.languages else 0
    shares = common | ({"others": others} if others >= 0.0005 else {})
    return render("data/languages.html.jinja", shares=shares, reviews=report.language_reviews)


def view_encoding(report: DataReport, repaired: bool) -> str:
    """Reviews with encoding errors, and what a repair makes of the first of them."""
    repairs = [_around_the_difference(repair.before, repair.after) for repair in report.repairs]
    return render("data/encoding.html.jinja", report=report, repaired=repaired, repairs=repairs)


def _around_the_difference(before: str, after: str, around: int = 40) -> tuple[str, ...]:
    """Both texts near the first place where they differ."""
    shorter = min(len(before), len(after))
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), shorter)
    start, end = max(0, first - around), first + 2 * around
    return tuple(f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}" for text in (before, after))


def view_lengths(report: DataReport, max_length: int) -> str:
    """How long the reviews are, and what `max_length` tokens truncate."""
    counts = report.tokens.counts if report.tokens else {}
    if not any(counts.values()):
        return ""
    longer = {length: count for length, count in counts.items() if length > max_length}
    bars, span = _histogram(counts, max_length)
    return render(
        "data/lengths.html.jinja",
        tokens=report.tokens,
        max_length=max_length,
        bars=bars,
        span=span,
        reviews=sum(counts.values()),
        longer=sum(longer.values()),
        lost=sum((length - max_length) * count for length, count in longer.items()),
        total=sum(length * count for length, count in counts.items()),
    )


def _histogram(counts: Mapping[int, int], max_length: int) -> tuple[list[Bar], int]:
    """Reviews by their tokens, and how many tokens the axis spans; beyond 99 of 100 reviews stands the last bar."""
    end = max(_percentile(counts, 0.99), min(max_length, max(counts)), 8)
    step = -(-end // BINS)
    bins = [0] * (-(-end // step) + 1)
    for length, count in counts.items():
        bins[min((length - 1) // step if length else 0, len(bins) - 1)] += count
    if not bins[-1]:
        bins.pop()
    pitch = WIDTH / len(bins)
    bars = [
        (place * pitch, max(1.0, pitch - 1), HEIGHT * count / max(bins), place * step >= max_length)
        for place, count in enumerate(bins)
        if count
    ]
    return bars, step * len(bins)


def _percentile(counts: Mapping[int, int], share: float) -> int:
    left = share * sum(counts.values())
    for length in sorted(counts):
        left -= counts[length]
        if left <= 0:
            return length
    return max(counts)
