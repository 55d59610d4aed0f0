"""What is in a data source, as HTML: its figures, class balance, lengths, what was left out, doubles, languages,
damage.

Pure: plain functions of an Examiner's report. Every text of a file (column names and labels included) is escaped and
stays as typed. Works in the style sheet's colours. Knows no handler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ...core.data_report import DataReport, Repair
from ...core.format import cut, percent, shorten

BINS = 48
WIDTH, HEIGHT = 480.0, 120.0  # pixels of the histogram's view box
LONGEST_EXAMPLE = 240  # characters
LEAST_LANGUAGE = 0.02  # a smaller share goes to the others: detection errs that often
LANGUAGES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
KINDS = {
    "csv": "text in columns",
    "jsonl": "JSON lines",
    "json": "JSON",
    "parquet": "Parquet",
    "rows": "rows of the Hub's data set",
}
PACKINGS = {"gz": "packed with gzip", "zip": "packed in a .zip"}


def view_summary(report: DataReport) -> str:
    """What was found, in big numbers, and how it was read."""
    left_out = report.rows - report.used
    leaking = sum(leak.rows for leak in report.leaks)
    tokens = report.tokens
    figures = [
        ("Reviews", f"{report.used:,}", f"of {report.rows:,} rows"),
        ("Left out", f"{left_out:,}", "by reason, below" if left_out else "none"),
        (
            "Labels",
            f"{len(report.labels)}",
            "in order" if report.ordinal else "classes" if report.labels else "no column found",
        ),
        ("Doubles", f"{report.duplicates:,}", f"{percent(report.duplicates / max(1, report.used))} repeat a text"),
        ("Contradictions", f"{report.contradicting:,}", "one text, several labels"),
        *([("In two splits", f"{leaking:,}", "known before they are judged")] if len(report.splits) > 1 else []),
        ("Median length", f"{tokens.p50:,}" if tokens else "–", "tokens"),
    ]
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{unit}</small></dd></div>" for name, value, unit in figures)
    return (
        f'<h2><bdi>{escape(report.name)}</bdi></h2><p class="quiet">{_read_as(report)}</p><dl class="facts'
        f' data-facts">{facts}</dl>'
    )


def _read_as(report: DataReport) -> str:
    kind, _, packing = report.format.partition(".")
    parts = [KINDS.get(kind, escape(kind)), *([PACKINGS.get(packing, escape(packing))] if packing else [])]
    rule = f" Labels: {escape(report.label_rule)}." if report.label_rule else ""
    return f"Read as {', '.join(parts)}.{rule}"


def view_warnings(report: DataReport) -> str:
    """What should not be overlooked, one sentence each."""
    said = [*([report.tokenizer_problem] if report.tokenizer_problem else []), *report.warnings]
    if not said:
        return '<p class="quiet">Nothing looks wrong with them.</p>'
    return f'<ul class="data-warnings">{"".join(f"<li>{escape(sentence)}</li>" for sentence in said)}</ul>'


def view_balance(report: DataReport) -> str:
    """How many reviews each label has, the splits one after the other in each bar."""
    if not report.labels:
        return '<h3>Labels</h3><p class="quiet">There is no label column: name it above to train on these reviews.</p>'
    splits = list(report.balance)
    most, total = max(report.labels.values()), sum(report.labels.values())
    rows = "".join(
        f'<div class="data-row"><bdi title="{escape(label)}">{escape(shorten(label, 24))}</bdi><div class="data-bar">'
        + "".join(_part(place, split, report.balance[split][label], most) for place, split in enumerate(splits))
        + "</div><span"
        f' class="number"><strong>{count:,}</strong><small>{percent(count / max(1, total))}</small></span></div>'
        for label, count in report.labels.items()
    )
    legend = "".join(
        f'<span><i class="data-split-{place}"></i>{escape(split)} ({report.splits[split]:,})</span>'
        for place, split in enumerate(splits)
    )
    below = f'<p class="legend">{legend}</p>{_split_table(report, splits)}' if len(splits) > 1 else ""
    return f'<h3>Labels</h3><div class="data-rows">{rows}</div>{below}'


def _part(place: int, split: str, count: int, most: int) -> str:
    return (
        f'<i class="data-split-{place}" style="width:{100 * count / max(1, most):.2f}%" title="{escape(split)}:'
        f' {count:,}"></i>'
    )


def _split_table(report: DataReport, splits: Sequence[str]) -> str:
    """The same in shares of each split: where they differ, what is judged is unlike what was trained on."""
    heads = "".join(f'<th scope="col" class="number">{escape(split)}</th>' for split in splits)

    def cells(label: str) -> str:
        shares = (report.balance[split][label] / max(1, report.splits[split]) for split in splits)
        return "".join(f'<td class="number">{percent(share)}</td>' for share in shares)

    body = "".join(f'<tr><th scope="row"><bdi>{escape(label)}</bdi></th>{cells(label)}</tr>' for label in report.labels)
    return (
        '<details class="data-more"><summary>Shares of each split</summary><div class="scroll"><table'
        ' class="plain"><thead><tr><th'
        f' scope="col">Label</th>{heads}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


def view_lengths(report: DataReport, max_length: int) -> str:
    """How long the reviews are, and what is cut at `max_length` tokens."""
    if report.tokens is None or not report.tokens.counts:
        return ""
    tokens, lengths = report.tokens, report.tokens.counts
    reviews = sum(lengths.values())
    total = sum(length * count for length, count in lengths.items())
    longer = sum(count for length, count in lengths.items() if length > max_length)
    lost = sum((length - max_length) * count for length, count in lengths.items() if length > max_length)
    figures = [
        ("Reviews cut", percent(longer / reviews), f"{longer:,} of {reviews:,}"),
        ("Tokens lost", percent(lost / max(1, total)), f"{lost:,} of {total:,}"),
        ("Shorter than", f"{tokens.p95:,}", "95 of 100 reviews"),
        ("Longest", f"{tokens.max:,}", "tokens"),
    ]
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{unit}</small></dd></div>" for name, value, unit in figures)
    sampled = f" Counted on a random sample of {reviews:,} reviews." if tokens.sampled else ""
    said = f'<p class="caption">{_say_cut(longer, reviews)}{sampled}</p>'
    return f'{_histogram(lengths, max_length)}<dl class="facts data-facts data-four">{facts}</dl>{said}'


def _say_cut(longer: int, reviews: int) -> str:
    if not longer:
        return "No review is longer: nothing is cut."
    if longer <= reviews / 20:
        return "The few that are longer lose their end; shorter batches train faster."
    return "Many lose their end, where the verdict often stands: take more tokens if memory allows."


def _histogram(lengths: Mapping[int, int], max_length: int) -> str:
    """Reviews by their tokens; what is longer than 99 of 100 stands in the last bar."""
    end = max(_percentile(lengths, 0.99), min(max_length, max(lengths)), 8)
    step = -(-end // BINS)
    bins = [0] * (-(-end // step) + 1)
    for length, count in lengths.items():
        bins[min((length - 1) // step if length else 0, len(bins) - 1)] += count
    if not bins[-1]:
        bins.pop()
    most, wide, span = max(bins), WIDTH / len(bins), step * len(bins)
    bars = "".join(
        f'<rect class="{"data-cut" if place * step >= max_length else "data-kept"}" x="{place * wide:.1f}" '
        f'y="{HEIGHT * (1 - count / most):.1f}" width="{max(1.0, wide - 1):.1f}" height="{HEIGHT * count / most:.1f}"/>'
        for place, count in enumerate(bins)
        if count
    )
    at = min(1.0, max_length / span)
    return (
        f'<svg class="data-histogram" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img"'
        ' aria-label="Reviews by '
        f'length in tokens; those beyond {max_length:,} are cut">{bars}<line x1="{at * WIDTH:.1f}"'
        f' x2="{at * WIDTH:.1f}" y1="0" '
        f'y2="{HEIGHT:.0f}"/></svg><p class="data-axis"><span>1</span><span>{span // 2:,}</span><span>{span:,} tokens'
        f"{' and more' if max(lengths) > span else ''}</span></p>"
        '<p class="legend"><span><i class="data-kept"></i>whole</span><span><i class="data-cut"></i>cut</span></p>'
    )


def _percentile(lengths: Mapping[int, int], share: float) -> int:
    left = share * sum(lengths.values())
    for length in sorted(lengths):
        left -= lengths[length]
        if left <= 0:
            return length
    return max(lengths)


def view_left_out(report: DataReport) -> str:
    """Rows that were left out, by reason, with their first lines."""
    if not report.skipped:
        return '<h3>Left out</h3><p class="quiet">No row was left out.</p>'
    rows = "".join(
        f'<tr><th scope="row"><bdi>{escape(one.reason)}</bdi></th><td class="number">{one.rows:,}</td>'
        f"<td>{', '.join(f'{line:,}' for line in one.first_lines)}{', …' if one.rows > len(one.first_lines) else ''}</td></tr>"  # noqa: E501
        for one in report.skipped
    )
    return (
        '<h3>Left out</h3><div class="scroll"><table class="plain"><thead><tr><th scope="col">Reason</th><th'
        ' scope="col" class="number">Rows</th><th scope="col">In'
        f" lines</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def view_doubles(report: DataReport) -> str:
    """Texts that contradict each other, and texts that stand in two splits; examples of both."""
    torn = [
        (
            one.text,
            ", ".join(
                f"<b><bdi>{escape(label)}</bdi></b> in {rows:,} row{'s' * (rows > 1)}"
                for label, rows in one.labels.items()
            ),
        )
        for one in report.contradictions
    ]
    parts = ["<h3>Contradictions</h3>", _quotes(torn) or '<p class="quiet">No text has several labels.</p>']
    if len(report.splits) > 1:
        leaking = [
            (text, f"in {escape(leak.known)} and {escape(leak.judged)}")
            for leak in report.leaks
            for text in leak.examples[:2]
        ]
        parts += ["<h3>In two splits</h3>", _quotes(leaking) or '<p class="quiet">No text stands in two splits.</p>']
    return "".join(parts)


def _quotes(found: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f'<li><q dir="auto">{escape(cut(text, LONGEST_EXAMPLE))}</q><small>{said}</small></li>' for text, said in found
    )
    return f'<ul class="data-quotes">{items}</ul>' if items else ""


def view_languages(report: DataReport) -> str:
    """The languages, as far as they can be told; the rare ones together."""
    if not report.languages:
        return '<h3>Languages</h3><p class="quiet">The reviews are too short to tell.</p>'
    known = {name: share for name, share in report.languages.items() if share >= LEAST_LANGUAGE}
    shares = {
        **{LANGUAGES.get(name, name): share for name, share in known.items()},
        "Others or unsure": 1 - sum(known.values()),
    }
    rows = "".join(
        f'<div class="data-row"><span>{escape(name)}</span><div class="data-bar"><i class="data-split-0"'
        f' style="width:{100 * share:.1f}%"></i></div><span class="number">{percent(share)}</span></div>'
        for name, share in shares.items()
        if share >= 0.0005
    )
    return (
        f'<h3>Languages</h3><div class="data-rows">{rows}</div><p class="caption">Guessed from'
        f" {report.language_reviews:,} reviews of twenty characters or more.</p>"
    )


def view_damage(report: DataReport, mended: bool) -> str:
    """Reviews that came through the wrong hands, and what mending makes of the first of them."""
    head = "<h3>Damaged letters</h3>"
    if not report.entities and not report.garbled:
        said = (
            "What could be mended is mended."
            if mended
            else "No HTML entities (&amp;quot;) and no letters of a wrong encoding (cafÃ©)."
        )
        return f'{head}<p class="quiet">{said}</p>'
    pairs = "".join(
        f'<li><small>as it is</small><q dir="auto">{escape(before)}</q><small>mended</small><q'
        f' dir="auto">{escape(after)}</q></li>'
        for before, after in map(_changed, report.repairs)
    )
    return (
        f"{head}<p><strong>{report.entities:,}</strong> reviews hold HTML entities,"
        f" <strong>{report.garbled:,}</strong> letters of a "
        f'wrong encoding.</p><ul class="data-quotes data-mended">{pairs}</ul>'
    )


def _changed(repair: Repair, around: int = 40) -> tuple[str, str]:
    """Both texts about the first place where they differ."""
    before, after = repair.before, repair.after
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, first - around)
    lead = "…" if start else ""
    return tuple(
        f"{lead}{text[start : first + 2 * around]}{'…' if len(text) > first + 2 * around else ''}"
        for text in (before, after)
    )  # type: ignore[return-value]
