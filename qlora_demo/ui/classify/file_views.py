"""A file of reviews as HTML: how it is read, how far classifying is, its rows with their stars, and what they come to.
Pure.

Every text is escaped here, and isolated: marks of writing direction in a review turn nothing else around. Knows no
handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core.format import cut, duration, number, percent, shorten, size
from ...core.names import METRICS
from ...storage.result_files import PROBABILITY, Layout
from ..views import metric_word

SHOWN_CHARACTERS, CELL_CHARACTERS = 600, 60
MOST_CONFUSED = 20  # labels; more make no matrix that one could read
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
# From orange over grey to blue: the order is seen without telling red from green, on white and on black alike.
SHADES = ((180, 83, 9), (240, 176, 96), (203, 206, 218), (150, 148, 240), (67, 56, 202))
Row = Mapping[str, Any]


def view_found(name: str, found: Mapping[str, Any]) -> str:
    """A file before it is classified (engine/filing.preview): how it is read, and its first rows."""
    columns, roles = (
        found["columns"],
        {found[f"{what}_column"]: what for what in ("label", "title", "text") if found[f"{what}_column"]},
    )
    between = found["delimiter"]
    how = [
        {"csv": "text", "jsonl": "JSON lines", "json": "JSON", "parquet": "Parquet"}.get(found["kind"], found["kind"]),
        found["encoding"] or "",
        f"columns between {DELIMITERS.get(between, repr(between))}" if between else "",
        "without a header" if found["header"] is False else "",
    ]
    heads = "".join(
        f"<th scope='col'>{_typed(shorten(column, CELL_CHARACTERS))}<small>{roles.get(column, '')}</small></th>"
        for column in columns
    )
    cells = [[f"<td>{_typed(shorten(cell, CELL_CHARACTERS))}</td>" for cell in row] for row in found["rows"]]
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    notes = "".join(f"<li>{escape(note)}</li>" for note in found["notes"])
    return (
        f'<p class="quiet"><strong>{_typed(name)}</strong>: {escape(", ".join(filter(None, how)))}; its first'
        ' rows:</p><div class="scroll" tabindex="0" role="region" aria-label="First rows of the file"><table'
        f' class="plain file-first"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        + (f'<ul class="notices">{notes}</ul>' if notes else "")
    )


def view_progress(name: str, state: str, told: Mapping[str, Any] | None, position: int | None) -> str:
    """How far a job is: its last phase, as a sentence and a bar. `position`: in the waiting line, None where it does
    not wait.
    """
    share = told["progress"] if told and told["progress"] is not None else 0.0
    if position:
        words = f"Number {position} in the waiting line: a run has the device."
    elif told is None:
        words = "Starting: the process of the job imports torch, which takes a few seconds."
    else:
        words = f"{told['name'].capitalize()}: {told['detail']}"
    if state == "stopping":
        words = f"Stopping; what is done is kept. {words}"
    return (
        f'<p class="file-status"><span class="badge" data-state="{escape(state)}">{escape(state)}</span>'
        f' {_typed(name)}</p><div class="meter" role="progressbar" aria-label="Rows classified" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{100 * share:.0f}"><div style="width:{100 * share:.1f}%"></div></div><p'
        f' class="quiet">{escape(words)}</p>'
    )


def view_ended(name: str, state: str, error: str | None, report: Mapping[str, Any] | None) -> str:
    """How a job ended, in one or two sentences."""
    badge = (
        f'<p class="file-status"><span class="badge" data-state="{escape(state)}">{escape(state)}</span>'
        f" {_typed(name)}</p>"
    )
    if report is None:
        return f'{badge}<p class="problem">{escape(error or f"The job ended as {state}, before it had a result.")}</p>'
    told = f"{report['classified']:,} of {report['rows']:,} rows classified in {duration(report['seconds'])}"
    stopped = f" Stopped on request: the first {report['done']:,} rows are in the result." if report["stopped"] else ""
    rate = f"{report['reviews_per_second']:g} a second"
    return f'{badge}<p class="quiet">{escape(f"{told}, {rate}.{stopped}")}</p>'


def view_links(links: Mapping[str, str]) -> str:
    """`links`: addresses by kind of file."""
    titles = {
        "csv": ("CSV", "for spreadsheets; cells that would run as formulas are made harmless by an apostrophe"),
        "jsonl": ("JSON Lines", "every cell as it was"),
        "parquet": ("Parquet", "every cell as it was"),
    }
    items = "".join(
        f'<a href="{escape(address)}" download class="file-link" title="{titles[kind][1]}">{titles[kind][0]}</a>'
        for kind, address in links.items()
    )
    return f'<p class="file-links"><span>Download with all columns:</span>{items}</p>' if links else ""


def view_doomed_file(name: str, size_bytes: int) -> str:
    """What deleting a file's job would remove, so that one can say no."""
    return (
        f'<p class="ask">Delete <strong>{escape(name)}</strong> as it was sent, and its results, {size(size_bytes)} in'
        " all? What you have downloaded stays yours.</p>"
    )


def view_deleted(name: str) -> str:
    """That nothing is left of it here."""
    return f'<p class="quiet" role="status">{escape(name)} and its results are deleted.</p>'


def view_rows(layout: Layout, rows: Sequence[tuple[int, Row]], first_page: bool, what: str = "") -> str:
    """Rows with their numbers (from 1): the review, its stars and the bar of its probabilities. `what`: which rows were
    asked for.
    """
    if not rows:
        return f'<p class="quiet">{escape(what or "No row")}: {"none" if first_page else "no more"}.</p>'
    true = layout.places["label"]
    names = ("Review", "Given", "Stars") if true else ("Review", "Stars")
    head = "<th scope='col' class='number'>Row</th>" + "".join(f"<th scope='col'>{name}</th>" for name in names)
    body = "".join(_row(layout, at, row) for at, row in rows)
    keys = "".join(
        f'<span><i style="{_shade(i, len(layout.labels))}"></i>{_typed(label)}</span>'
        for i, label in enumerate(layout.labels)
    )
    return (
        f'<table class="plain file-rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p'
        f' class="legend">{keys}</p>'
    )


def _row(layout: Layout, at: int, row: Row) -> str:
    places, added = layout.places, layout.added
    title, text = (_words(row.get(places[what])) if places[what] else "" for what in ("title", "text"))
    head = f"<strong dir='auto'>{_typed(shorten(title, CELL_CHARACTERS * 2))}</strong> " if title else ""
    review = head + _typed(cut(text, SHOWN_CHARACTERS))
    true = (
        f"<td class='file-true'>{_typed(shorten(_words(row.get(places['label'])), 30))}</td>" if places["label"] else ""
    )
    label = row.get(added["label"])
    if label is None:
        answer = f'<span class="file-none">no prediction: {escape(str(row.get(added["problem"]) or "unknown"))}</span>'
    else:
        shares = [float(row[added[f"{PROBABILITY}{name}"]]) for name in layout.labels]
        stars, expected = row.get(added["stars"]), row.get(added["expected_stars"])
        said = (
            f"{view_symbols(int(stars), len(layout.labels))}<b>{expected:.1f}</b>"
            if stars is not None
            else f"<b>{_typed(label)}</b>"
        )
        end = "<small>its end was cut</small>" if row.get(added["truncated"]) else ""
        answer = f'<span class="file-stars">{said}</span>{view_shares(layout.labels, shares)}{end}'
    text_cell = f"<td class='file-text' dir='auto'>{review}</td>"
    return f"<tr><td class='number'>{at:,}</td>{text_cell}{true}<td class='file-answer'>{answer}</td></tr>"


def view_symbols(stars: int, most: int) -> str:
    """★★★☆☆, read aloud as a number; of more than ten the number alone."""
    if most > 10:
        return f"{stars} of {most} "
    drawn = f'{"★" * stars}<span class="file-empty">{"☆" * (most - stars)}</span>'
    return f'<span role="img" aria-label="{stars} of {most} stars">{drawn}</span>'


def view_shares(labels: Sequence[str], shares: Sequence[float]) -> str:
    """The probabilities as one bar, a segment for each label from the first to the last."""
    told = ", ".join(f"{label} {100 * share:.0f} %" for label, share in zip(labels, shares, strict=True))
    parts = "".join(
        f'<i style="width:{100 * share:.1f}%;{_shade(i, len(labels))}"></i>' for i, share in enumerate(shares)
    )
    return f'<span class="file-bar" role="img" aria-label="{escape(told)}" title="{escape(told)}">{parts}</span>'


def view_summary(report: Mapping[str, Any]) -> str:
    """What a classified file comes to: counts by label, expected stars, certainty; and rows that have no prediction, or
    are not there.
    """
    labels = [(label, rows) for label, rows in report["by_label"].items()]
    stars = [(f"{one['lower']:g} to {one['upper']:g}", one["rows"]) for one in report["expected_stars"]]
    sure = [(f"{100 * one['lower']:.0f}–{100 * one['upper']:.0f} %", one["rows"]) for one in report["certainty"]]
    lowest = next((i for i, (_, rows) in enumerate(sure) if rows), 0)
    figures = [("Rows by label", labels), ("Expected stars", stars), ("How sure (likeliest label)", sure[lowest:])]
    drawn = "".join(_bars(title, bars) for title, bars in figures if any(rows for _, rows in bars))
    missing = [
        f"{_count(rows)} without a prediction: {reason}." for reason, rows in report["without_prediction"].items()
    ]
    skipped = [
        f"{_count(item['rows'])} left out, because of {item['reason']} "
        f"(line {', '.join(f'{line:,}' for line in item['first_lines'])})."
        for item in report["skipped"]
    ]
    ends = (
        [f"{report['truncated']:,} reviews are longer than the adapter reads; their ends were cut off."]
        if report["truncated"]
        else []
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*missing, *skipped, *ends, *report["notes"]))
    return f'<div class="file-figures">{drawn}</div>' + (f'<ul class="notices">{notes}</ul>' if notes else "")


def view_judged(report: Mapping[str, Any]) -> str:
    """The predictions against the right labels of the file: metrics with their intervals, and the confusion matrix."""
    metrics = report["final"].get("test")
    if not metrics:
        return f'<p class="quiet">{escape(report["judged"])}</p>'
    rows = "".join(
        f"<tr><th scope='row'>{title}</th><td class='number'>{metric_word(metrics[name], form)}</td>"
        f"<td class='number'>{_ends(metrics['intervals'].get(name), form)}</td></tr>"
        for name, (title, form) in METRICS.items()
        if metrics[name] is not None
    )
    calibration = (
        "<tr><th scope='row'>Calibration error</th><td"
        f" class='number'>{number(metrics['calibration']['ece'])}</td><td></td></tr>"
    )
    return (
        f'<h3>Against the file\'s own labels</h3><p class="quiet">{escape(report["judged"])}</p><div'
        ' class="file-judged">'
        "<table class='plain'><thead><tr><td></td><th scope='col' class='number'>Measured</th><th scope='col'"
        " class='number'>95 % interval"
        f"</th></tr></thead><tbody>{rows}{calibration}</tbody></table>{view_confusion(metrics, report['ordinal'])}</div>"  # noqa: E501
    )


def view_confusion(metrics: Mapping[str, Any], ordinal: bool) -> str:
    """The confusion matrix: right answers in one hue, wrong ones in another, deeper the more stars they are off."""
    labels, most = metrics["labels"], len(metrics["labels"]) - 1
    if len(labels) > MOST_CONFUSED:
        return ""

    def cell(right: int, guess: int, count: int, rows: int) -> str:
        off = abs(right - guess)
        kind = ("judged-wrong" if off else "judged-right") if count else ""
        depth = 30 if not off else 12 + 33 * (off - 1) / (most - 1) if ordinal and most > 1 else 25
        return (
            f'<td><span class="judged-cell {kind}" style="--depth:{depth:.0f}%" title="{count:,} of {rows:,}">{count:,}'
            f'<i style="width:{100 * count / max(rows, 1):.1f}%"></i></span></td>'
        )

    heads = "".join(f"<th scope='col'>{_typed(label)}</th>" for label in labels)
    body = "".join(
        "<tr><th"
        f" scope='row'>{_typed(label)}</th>{''.join(cell(i, j, count, sum(counts)) for j, count in enumerate(counts))}</tr>"  # noqa: E501
        for i, (label, counts) in enumerate(zip(labels, metrics["confusion"], strict=True))
    )
    return (
        '<div class="scroll"><table class="judged-matrix"><caption>A row: the reviews of one label in the file. Its'
        " columns: what they were"
        f" called.</caption><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _bars(title: str, bars: Sequence[tuple[str, int]]) -> str:
    most, total = max(rows for _, rows in bars), sum(rows for _, rows in bars)
    lines = "".join(
        f"<tr><th scope='row'>{_typed(name)}</th><td><i style='width:{100 * rows / most:.1f}%'></i></td>"
        f"<td class='number'>{rows:,}</td><td class='number'>{percent(rows / total)}</td></tr>"
        for name, rows in bars
    )
    return f'<table class="file-bars"><caption>{title}</caption><tbody>{lines}</tbody></table>'


def _count(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


def _ends(ends: Sequence[float] | None, form: str) -> str:
    return f"{metric_word(ends[0], form)} to {metric_word(ends[1], form)}" if ends else ""


def _shade(place: int, labels: int) -> str:
    """The segment's colour, as in the pinned reviews."""
    at = place / max(labels - 1, 1) * (len(SHADES) - 1)
    low = min(int(at), len(SHADES) - 2)
    mixed = (round(a + (at - low) * (b - a)) for a, b in zip(SHADES[low], SHADES[low + 1], strict=True))
    return f"background:rgb({' '.join(map(str, mixed))})"


def _words(value: Any) -> str:
    return "" if value is None else str(value)


def _typed(text: str) -> str:
    """A text of somebody else's, shown as it was typed."""
    return f'<bdi class="file-typed">{escape(str(text))}</bdi>'
