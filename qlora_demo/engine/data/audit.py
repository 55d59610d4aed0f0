"""The report of a data source: rows used and left out, duplicates, conflicting labels, overlap of
splits, lengths, languages, encoding errors.

All reviews are counted; of many, only a random sample is tokenized and has its languages detected, and the report says
so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from ...core.data_report import DataReport, Repair, Skipped, TokenLengths
from .duplicates import TextKeys
from .repair import has_entities, has_mojibake, repair
from .reviews import DataSet, Reviews
from .splitting import stratified
from .warnings import describe_problems

TOKEN_REVIEWS = 10_000
LANGUAGE_REVIEWS = 2_000
LANGUAGE_CHARACTERS = 30  # the language of shorter texts cannot be detected
RARE_LANGUAGE = 0.01  # languages below this share are counted as "other": most are mistakes about short texts
REPAIRS = 3  # examples
_READ_CHARACTERS = 20_000  # of a review's beginning, for its language
Splits = Mapping[str, Reviews]


def examine(data: DataSet, tokenizer: Any = None, max_length: int = 256) -> DataReport:
    """The report of `data` (of dataset.read_all). Without a tokenizer no tokens are counted. max_length in tokens."""
    origin = data.origin
    splits = {name: reviews for name, reviews in data.splits.items() if len(reviews)}
    keys = TextKeys(splits)
    contradicting, contradictions = keys.conflicts(data.labels)
    balance = {name: _balance(reviews, data.labels) for name, reviews in splits.items()}
    languages, language_reviews = _languages(splits)
    entities, garbled, repairs = _encoding_errors(splits)
    report = DataReport(
        name=data.name,
        rows=origin.rows,
        used=sum(map(len, splits.values())),
        skipped=tuple(
            Skipped(reason=reason, rows=rows, first_lines=origin.first_lines.get(reason, ()))
            for reason, rows in sorted(data.skipped.items(), key=lambda item: -item[1])
        ),
        labels={label: sum(counts[label] for counts in balance.values()) for label in data.labels},
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
        duplicates=keys.duplicates(),
        contradicting=contradicting,
        contradictions=contradictions,
        leaks=keys.overlaps(),
        languages=languages,
        language_reviews=language_reviews,
        entities=entities,
        garbled=garbled,
        repairs=repairs,
    )
    return report.model_copy(update={"warnings": tuple(describe_problems(report, data))})


def _balance(reviews: Reviews, names: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(reviews.labels)
    return {name: counts[i] for i, name in enumerate(names)}


def _encoding_errors(splits: Splits) -> tuple[int, int, tuple[Repair, ...]]:
    """(reviews with HTML entities, reviews with encoding errors, a few of both with their repair)."""
    entities = garbled = 0
    repairs: list[Repair] = []
    for text in chain.from_iterable(reviews.texts for reviews in splits.values()):
        escaped, wrong = has_entities(text), has_mojibake(text)
        entities += escaped
        garbled += wrong
        if (escaped or wrong) and len(repairs) < REPAIRS:
            repairs.append(Repair(before=text, after=repair(text)))
    return entities, garbled, tuple(repairs)


def _sample(splits: Splits, count: int) -> list[str]:
    """At most `count` texts, each split and label by its share, always the same ones."""
    total = sum(map(len, splits.values()))
    texts = []
    for reviews in splits.values():
        rows = len(reviews) if total <= count else max(1, count * len(reviews) // total)
        texts += [reviews.texts[i] for i in stratified(reviews.labels, rows, seed=0)]
    return texts[:count]


def _token_lengths(splits: Splits, tokenizer: Any, max_length: int) -> TokenLengths:
    texts = _sample(splits, TOKEN_REVIEWS)
    counts: list[int] = []
    for start in range(0, len(texts), 256):
        counts += map(len, tokenizer(texts[start : start + 256], truncation=False, verbose=False)["input_ids"])
    lengths = np.array(counts)
    excess = np.maximum(lengths - max_length, 0)
    return TokenLengths(
        p50=int(np.percentile(lengths, 50)),
        p95=int(np.percentile(lengths, 95)),
        max=int(lengths.max()),
        truncated=float((excess > 0).mean()),
        cut=float(excess.sum() / max(1, lengths.sum())),
        max_length=max_length,
        reviews=len(texts),
        sampled=len(texts) < sum(map(len, splits.values())),
        counts=dict(sorted(Counter(counts).items())),
    )


def _languages(splits: Splits) -> tuple[dict[str, float], int]:
    """(shares by ISO 639 code, the commonest first, rare ones as "other"; how many reviews were classified). Short ones
    are passed over.
    """
    import py3langid

    sample = _sample(splits, 2 * LANGUAGE_REVIEWS)
    random.Random(0).shuffle(sample)
    texts = [text for text in sample if len(text) >= LANGUAGE_CHARACTERS][:LANGUAGE_REVIEWS]
    counts = Counter(py3langid.classify(text[:_READ_CHARACTERS])[0] for text in texts)
    shares = {language: rows / len(texts) for language, rows in counts.most_common()}
    common = {language: share for language, share in shares.items() if share >= RARE_LANGUAGE}
    rest = sum(shares.values()) - sum(common.values())
    return (common | {"other": rest} if rest > 0 else common), len(texts)
