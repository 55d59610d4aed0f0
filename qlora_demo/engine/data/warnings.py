"""What a reader of a data report should not overlook, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.data_report import DataReport
from ...core.format import percent
from .reviews import DataSet

IMBALANCE = 10  # times as many reviews of the commonest label as of the rarest
MANY_TRUNCATED = 0.05
MAIN_LANGUAGE = 0.9


def describe_problems(report: DataReport, data: DataSet) -> Iterator[str]:
    """The notes of reading `data`, then what its report shows."""
    yield from data.notes
    if data.origin.encoding_guessed:
        yield f"The encoding {report.encoding} is a guess: the file is not UTF-8; choose another if letters look wrong."
    if report.label_column is None:
        columns = ", ".join(map(str, report.columns))[:300]
        yield f"No column looks like the label; the columns are {columns}: name it to train on this."
    yield from _label_problems(report)
    if report.rows > report.used:
        yield f"{report.rows - report.used:,} of {report.rows:,} rows are left out."
    if report.duplicates:
        yield f"{report.duplicates:,} reviews ({percent(report.duplicates / report.used)}) are duplicates."
    if report.contradicting:
        yield f"{report.contradicting:,} reviews have conflicting labels: one text, several labels."
    for leak in report.leaks:
        yield f"{leak.rows:,} reviews of {leak.judged} are in {leak.known} too: results on them are too good."
    if report.entities or report.garbled:
        counts = f"{report.entities:,} reviews contain HTML entities, {report.garbled:,} encoding errors"
        yield f"{counts}; they can be fixed."
    if report.languages and next(iter(report.languages.values())) < MAIN_LANGUAGE:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in list(report.languages.items())[:4])
        yield f"The reviews seem to be in several languages: {shares}."
    yield from _length_problems(report)


def _label_problems(report: DataReport) -> Iterator[str]:
    counts = {label: rows for label, rows in report.labels.items() if rows}
    if len(counts) == 1:
        yield f"All reviews have the label {next(iter(counts))}: nothing can be learnt from one label."
    elif counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        rarest, commonest = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
        rows = f"{counts[commonest]:,} reviews have {commonest}, {counts[rarest]:,} have {rarest}"
        yield f"The labels are imbalanced: {rows}."


def _length_problems(report: DataReport) -> Iterator[str]:
    tokens = report.tokens
    if tokens and tokens.truncated > MANY_TRUNCATED:
        yield f"{percent(tokens.truncated)} of the reviews are truncated at {tokens.max_length} tokens."
    if tokens and tokens.sampled:
        yield f"Tokens were counted on a random sample of {tokens.reviews:,} reviews."
