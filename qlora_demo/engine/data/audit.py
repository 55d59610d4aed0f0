"""What is in a data source, for a person to judge: rows used and left out, doubles, contradictions, leaks, lengths,
languages, damage.

Looks at all reviews, but counts tokens and languages on a random sample where there are many, and says so. Trains
nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.data_report import (
    Contradiction,
    DataReport,
    Leak,
    PreviewRow,
    Repair,
    Skipped,
    TokenizedReview,
    TokenLengths,
)
from ...core.format import percent
from .dataset import DataSet, Reviews
from .repair import has_entities, is_garbled, mend
from .splitting import stratified

TOKEN_REVIEWS = 10_000
LANGUAGE_REVIEWS = 2_000
LANGUAGE_CHARACTERS = 30  # shorter texts are in no language that could be told
RARE = 0.01  # languages below this share are one, "other": most of them are mistakes about short texts
EXAMPLES = 5
REPAIRS = 3
_READ_CHARACTERS = 20_000  # of a review's beginning, for its language


def examine(data: DataSet, tokenizer: Any = None, max_length: int = 256) -> DataReport:
    """The report of `data` (of data.read_all). Without a tokenizer no tokens are counted. max_length in tokens."""
    origin = data.origin
    splits = {name: reviews for name, reviews in data.splits.items() if len(reviews)}
    keys = {name: _keys(reviews.texts) for name, reviews in splits.items()}
    contradicting, contradictions = _contradictions(data, splits, keys)
    balance = {name: _balance(reviews, data.labels) for name, reviews in splits.items()}
    labels = {label: sum(counts[label] for counts in balance.values()) for label in data.labels}
    languages, looked_at = _languages(splits)
    entities, garbled, repairs = _damage(splits)
    report = DataReport(
        name=data.name,
        rows=origin.rows,
        used=sum(map(len, splits.values())),
        skipped=tuple(
            Skipped(reason=reason, rows=rows, first_lines=origin.first_lines.get(reason, ()))
            for reason, rows in sorted(data.skipped.items(), key=lambda item: -item[1])
        ),
        labels=labels,
        label_rule=origin.label_rule,
        ordinal=data.ordinal,
        format=f"{origin.kind}.{origin.packing}" if origin.packing else origin.kind,
        encoding=origin.encoding,
        delimiter=origin.delimiter,
        header=origin.header,
        text_column=origin.text_column,
        title_column=origin.title_column or None,
        label_column=origin.label_column or None,
        columns=origin.columns,
        splits={name: len(reviews) for name, reviews in splits.items()},
        balance=balance,
        tokens=_token_lengths(splits, tokenizer, max_length) if tokenizer is not None else None,
        duplicates=sum(_repeated(found) for found in keys.values()),
        contradicting=contradicting,
        contradictions=contradictions,
        leaks=_leaks(splits, keys),
        languages=languages,
        language_reviews=looked_at,
        entities=entities,
        garbled=garbled,
        repairs=repairs,
    )
    return report.model_copy(update={"warnings": tuple(_warnings(report, data))})


def _keys(texts: Sequence[str]) -> NDArray[np.int64]:
    """A number for each text, equal where the texts are (Python's 64-bit hash: 10 million texts clash once in 300,000
    such files).
    """
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def _repeated(keys: NDArray[np.int64]) -> int:
    """How many keys stood before. By sorting: numpy's own count of distinct numbers hashes them, which is slower."""
    ordered = np.sort(keys)
    return int((ordered[1:] == ordered[:-1]).sum())


def _balance(reviews: Reviews, names: Sequence[str]) -> dict[str, int]:
    if not names:
        return {}
    return dict(
        zip(names, np.bincount(np.asarray(reviews.labels, np.int64), minlength=len(names)).tolist(), strict=True)
    )


def _contradictions(
    data: DataSet, splits: dict[str, Reviews], keys: dict[str, NDArray[np.int64]]
) -> tuple[int, tuple[Contradiction, ...]]:
    """(rows of texts that have several labels, over all splits; those with most rows as examples)."""
    if not data.labels or not splits:
        return 0, ()
    every = np.concatenate(list(keys.values()))
    labels = np.concatenate([np.asarray(reviews.labels, np.int32) for reviews in splits.values()])
    order = np.argsort(every, kind="stable")
    ordered, labels = every[order], labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    torn = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    rows = int(sizes[torn].sum())
    examples = []
    for group in np.flatnonzero(torn)[np.argsort(-sizes[torn], kind="stable")][:EXAMPLES]:
        start, end = starts[group], starts[group] + sizes[group]
        counts = np.bincount(labels[start:end], minlength=len(data.labels)).tolist()
        named = {name: count for name, count in zip(data.labels, counts, strict=True) if count}
        examples.append(Contradiction(text=_text_at(splits, int(order[start])), labels=named))
    return rows, tuple(examples)


def _text_at(splits: dict[str, Reviews], row: int) -> str:
    for reviews in splits.values():
        if row < len(reviews):
            return reviews.texts[row]
        row -= len(reviews)
    raise IndexError(row)


def _damage(splits: dict[str, Reviews]) -> tuple[int, int, tuple[Repair, ...]]:
    """(reviews with HTML entities, reviews with encoding errors, a few of both with their repair)."""
    entities = garbled = 0
    repairs: list[Repair] = []
    for text in chain.from_iterable(reviews.texts for reviews in splits.values()):
        escaped = "&" in text and has_entities(text)
        wrong = not text.isascii() and is_garbled(text)
        entities += escaped
        garbled += wrong
        if (escaped or wrong) and len(repairs) < REPAIRS:
            repairs.append(Repair(before=text, after=mend(text)))
    return entities, garbled, tuple(repairs)


def _leaks(splits: dict[str, Reviews], keys: dict[str, NDArray[np.int64]]) -> tuple[Leak, ...]:
    """For each pair of splits, in their order: the later one is judged by what the earlier one knows."""
    names, found = list(splits), []
    for i, known in enumerate(names):
        for judged in names[i + 1 :]:
            rows = np.flatnonzero(np.isin(keys[judged], keys[known]))
            if len(rows):
                texts = tuple(dict.fromkeys(splits[judged].texts[row] for row in rows[:50]))
                found.append(Leak(known=known, judged=judged, rows=len(rows), examples=texts[:EXAMPLES]))
    return tuple(found)


def _sampled(splits: dict[str, Reviews], count: int) -> list[str]:
    """At most `count` texts, each split and label by its share, always the same ones."""
    total = sum(map(len, splits.values()))
    texts = []
    for reviews in splits.values():
        rows = len(reviews) if total <= count else max(1, count * len(reviews) // total)
        texts += [reviews.texts[i] for i in stratified(reviews.labels, rows, seed=0)]
    return texts[:count]


def _token_lengths(splits: dict[str, Reviews], tokenizer: Any, max_length: int) -> TokenLengths:
    texts = _sampled(splits, TOKEN_REVIEWS)
    counts: list[int] = []
    for start in range(0, len(texts), 256):
        counts += map(len, tokenizer(texts[start : start + 256], truncation=False, verbose=False)["input_ids"])
    found = np.array(counts)
    over = np.maximum(found - max_length, 0)
    return TokenLengths(
        p50=int(np.percentile(found, 50)),
        p95=int(np.percentile(found, 95)),
        max=int(found.max()),
        truncated=float((over > 0).mean()),
        cut=float(over.sum() / max(1, found.sum())),
        max_length=max_length,
        reviews=len(texts),
        sampled=len(texts) < sum(map(len, splits.values())),
        counts=dict(sorted(Counter(counts).items())),
    )


def _languages(splits: dict[str, Reviews]) -> tuple[dict[str, float], int]:
    """(shares by ISO 639 code, the commonest first, rare ones as "other"; how many reviews were looked at). Short ones
    are passed over.
    """
    import py3langid

    sample = _sampled(splits, 2 * LANGUAGE_REVIEWS)
    random.Random(0).shuffle(sample)
    texts = [text for text in sample if len(text) >= LANGUAGE_CHARACTERS][:LANGUAGE_REVIEWS]
    counts = Counter(py3langid.classify(text[:_READ_CHARACTERS])[0] for text in texts)
    shares = {language: rows / len(texts) for language, rows in counts.most_common()}
    common = {language: share for language, share in shares.items() if share >= RARE}
    rest = sum(shares.values()) - sum(common.values())
    return (common | {"other": rest} if rest > 0 else common), len(texts)


def _warnings(report: DataReport, data: DataSet) -> list[str]:
    """What a reader should not overlook, in sentences."""
    said = list(data.notes)
    if data.origin.encoding_guessed:
        said.append(
            f"The encoding {report.encoding} is a guess: the file is not UTF-8; name another one if letters look wrong."
        )
    if report.label_column is None:
        columns = ", ".join(map(str, report.columns))[:300]
        said.append(f"No column looks like the label; the columns are {columns}: name it to train on this.")
    given = {label: rows for label, rows in report.labels.items() if rows}
    if len(given) == 1:
        said.append(f"All reviews have the label {next(iter(given))}: nothing can be learnt from one label.")
    elif given and max(given.values()) > 10 * min(given.values()):
        least, most = min(given, key=lambda name: given[name]), max(given, key=lambda name: given[name])
        said.append(
            f"The labels are out of balance: {given[most]:,} reviews have {most}, {given[least]:,} have {least}."
        )
    if report.rows > report.used:
        said.append(f"{report.rows - report.used:,} of {report.rows:,} rows are left out.")
    if report.duplicates:
        said.append(
            f"{report.duplicates:,} reviews ({percent(report.duplicates / report.used)}) repeat a text that stood"
            " before."
        )
    if report.contradicting:
        said.append(f"{report.contradicting:,} reviews contradict each other: one text, different labels.")
    said += [
        f"{leak.rows:,} reviews of {leak.judged} stand in {leak.known} too: results on them are too good."
        for leak in report.leaks
    ]
    if report.tokens and report.tokens.truncated > 0.05:
        said.append(
            f"{percent(report.tokens.truncated)} of the reviews are longer than {report.tokens.max_length} tokens and"
            " are cut."
        )
    if report.entities or report.garbled:
        damage = f"{report.entities:,} reviews hold HTML entities, {report.garbled:,} letters from a wrong encoding"
        said.append(f"{damage}; they can be mended.")
    main = next(iter(report.languages.items()), None)
    if main and main[1] < 0.9:
        said.append(f"The reviews are in several languages, as far as can be told: {_shares(report.languages)}.")
    if report.tokens and report.tokens.sampled:
        said.append(f"Tokens were counted on a random sample of {report.tokens.reviews:,} reviews.")
    return said


def _shares(languages: dict[str, float]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in list(languages.items())[:4])


def preview(data: DataSet, query: str = "", start: int = 0, count: int = 50) -> tuple[list[PreviewRow], int]:
    """(`count` reviews from number `start` on of those whose text or label contains `query` in any case, how many there
    are).
    """
    wanted, found, total = query.casefold(), [], 0
    for split, reviews in data.splits.items():
        fitting = {i for i, name in enumerate(data.labels) if wanted in name.casefold()} if wanted else set()
        for row, (text, label) in enumerate(zip(reviews.texts, reviews.labels, strict=True), 1):
            if wanted and label not in fitting and wanted not in text.casefold():
                continue
            if start <= total < start + count:
                found.append(
                    PreviewRow(split=split, row=row, label=data.labels[label] if label >= 0 else "", text=text)
                )
            total += 1
    return found, total


def as_model_sees(text: str, tokenizer: Any, max_length: int, length: int = 0) -> TokenizedReview:
    """`text` cut to `max_length` tokens and padded to `length`: that of the longest review beside it in a batch (0 =
    not padded).
    """
    whole = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    kept = tokenizer(text, truncation=True, max_length=max_length)
    padded = tokenizer.pad(
        {"input_ids": [kept["input_ids"]]}, padding="max_length", max_length=max(length, len(kept["input_ids"]))
    )
    ids, mask = padded["input_ids"][0], padded["attention_mask"][0]
    return TokenizedReview(
        text=text,
        tokens=tuple(tokenizer.convert_ids_to_tokens(ids)),
        ids=tuple(ids),
        mask=tuple(mask),
        padding=len(ids) - sum(mask),
        cut_tokens=len(whole) - len(kept["input_ids"]),
        cut_text=_cut_text(text, tokenizer, max_length) if len(whole) > len(kept["input_ids"]) else "",
    )


def _cut_text(text: str, tokenizer: Any, max_length: int) -> str:
    """The end of `text` that no kept token covers; told by offsets where the tokenizer has them."""
    if not tokenizer.is_fast:
        return ""
    spans = tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=True)["offset_mapping"]
    return text[max((end for _, end in spans), default=0) :]
