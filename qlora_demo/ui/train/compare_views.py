"""Runs side by side as HTML: a table, and accuracy over time as a picture. Pure; every text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ...core.config import RunConfig
from ...core.format import cut, duration, number, percent, size
from ...services.compare import COMPARED, Compared

WIDTH, HEIGHT = 560.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 20.0, 16.0, 40.0
LONGEST = 60  # characters of a value
TICKS_SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 108_000)
BEST = (
    "Not beaten: no other run judged on the same reviews is at least as accurate, as quick and as small. Where"
    " intervals overlap, the order may be chance; times are of this machine, busy as it was."
)


def view_compared(found: Sequence[Compared], shown: str) -> str:
    """Table and picture; `shown`: the run that the page shows, and that the others are held against."""
    if not found:
        return '<p class="quiet">No run has come to a result yet.</p>'
    here = next((one for one in found if one.run == shown), None)
    test = here.test if here else found[0].test
    alike = [one for one in found if one.test == test]
    numbers = {one.run: n for n, one in enumerate(found, start=1)}
    energy = any(one.joules for one in found)
    rows = "".join(_row(numbers[one.run], one, one.run == shown, one.test == test, energy) for one in found)
    titles = ("Test accuracy", "Stars off", "Trained in", "Peak memory", *(["Energy"] if energy else []))
    head = "".join(f"<th scope='col' class='number'>{title}</th>" for title in titles)
    best = any(one.unbeaten for one in found)
    return (
        (_picture(alike, numbers, shown) if len(alike) > 1 else "")
        + f'<div class="scroll"><table class="plain compared-table"><thead><tr>{head}</tr></thead>{rows}</table></div>'
        + (f'<p class="quiet"><i class="compared-dot best"></i>{BEST}</p>' if best else "")
        + (f'<p class="quiet">The newest {COMPARED} with a result.</p>' if len(found) == COMPARED else "")
    )


def _row(place: int, one: Compared, is_shown: bool, is_alike: bool, with_energy: bool) -> str:
    changes = " · ".join(
        f"{escape(str(RunConfig.model_fields[name].title))} <strong>{escape(cut(value, LONGEST))}</strong>"
        for name, value in one.changes
    )
    what = "the run shown" if is_shown else f"differs in: {changes}" if changes else "differs in nothing"
    dot = f'<i class="compared-dot{" best" if one.unbeaten else ""}"></i>'
    name = f"{escape(one.name)} <small>{escape(one.run)}</small>" if one.name else escape(one.run)
    state = "" if one.state == "done" else f" <small>{escape(one.state)}</small>"
    interval = f"<small>{100 * one.interval[0]:.0f}–{100 * one.interval[1]:.0f}</small>" if one.interval else ""
    others = "" if is_alike else f"<small>on {one.rows:,} other reviews</small>"
    energy = "-" if one.joules is None else f"{one.joules / 3600:.2f} Wh"
    cells = (
        f"{percent(one.accuracy)}{interval}{others}",
        number(one.mae_stars, ".2f"),
        duration(one.seconds),
        size(one.peak_bytes),
        *([energy] if with_energy else []),
    )
    return (
        f"<tbody{' class=changed' if is_shown else ''}><tr><th scope='rowgroup' colspan='{len(cells)}'>{dot}{place}."
        f" {name}{state}<span>{what}</span></th></tr><tr>"
        + "".join(f"<td class='number'>{cell}</td>" for cell in cells)
        + "</tr></tbody>"
    )


def _picture(alike: Sequence[Compared], numbers: dict[str, int], shown: str) -> str:
    """Accuracy over the time of training (a log scale), with intervals; what is not beaten is filled."""
    slow, quick = max(one.seconds for one in alike), max(min(one.seconds for one in alike), 0.1)
    first, last = math.floor(math.log10(quick) * 2) / 2, math.ceil(math.log10(max(slow, quick)) * 2 + 1e-9) / 2
    low = math.floor(10 * min(one.interval[0] if one.interval else one.accuracy for one in alike)) / 10
    high = min(1.0, math.ceil(10 * max(one.interval[1] if one.interval else one.accuracy for one in alike)) / 10)
    if high <= low:
        low, high = max(0.0, low - 0.1), min(1.0, high + 0.1)

    def across(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(max(seconds, 0.1)) - first) / max(last - first, 0.5)

    def down(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (share - low) / (high - low)

    lines = "".join(
        f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16:.0f}"'
        f' text-anchor="middle">{escape(duration(tick))}</text>'
        for tick in TICKS_SECONDS
        if first <= math.log10(tick) <= last
    )
    for tenth in range(round(10 * low), round(10 * high) + 1):
        y = down(tenth / 10)
        lines += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        lines += f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10 * tenth} %</text>'
    points = ""
    for one in alike:
        x, y = across(one.seconds), down(one.accuracy)
        if one.interval:
            top, bottom = (down(end) for end in reversed(one.interval))
            points += f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
        kind = " ".join(["best"] * one.unbeaten + ["shown"] * (one.run == shown))
        told = f"{one.name or one.run}: {percent(one.accuracy)}, {duration(one.seconds)}, {size(one.peak_bytes)}"
        points += f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>{escape(told)}</title></circle>'
        points += f'<text x="{x + 10:.1f}" y="{y + 4:.1f}">{numbers[one.run]}</text>'
    meaning = "Test accuracy over the time of training; the numbers are in the table below"
    return (
        f'<svg class="compared-picture" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="{meaning}">{lines}{points}<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6:.0f}" text-anchor="end">time'
        " of training (log scale)</text></svg>"
    )
