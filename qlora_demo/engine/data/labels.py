"""Label values to names in order: stars, half stars, words from bad to good, yes and no, or plain classes; with the
rule in words.

A few values outside a star scale are left out and named, never taken for classes. Knows neither files nor texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import DataError

MOST_LABELS = 20
COVERED = 0.9  # the share of labelled rows that a scale must cover, for the others to be left out

_STAR_WORDS = r"(?:stars?|sterne?n?|[ée]toiles?|estrellas?|stelle?|estrelas?)"
_NUMBER = re.compile(rf"([-+]?\d+(?:[.,]\d+)?)(?:\s*(?:/|of|out of|von|sur|de)\s*5)?(?:[\s-]*{_STAR_WORDS})?", re.I)
_SYMBOLS = re.compile(r"([★⭐*🌟]+)[☆✩\s\ufe0f]*")
_COUNTED = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
# Words from bad to good; a file may use some of one line. Of words that share a rank it may use one only.
_WORDINGS: tuple[dict[str, int], ...] = tuple(
    {word: rank for rank, words in enumerate(line.split(", ")) for word in words.split("/")}
    for line in (
        (
            "very negative/very neg/strongly negative/extremely negative, negative/neg, somewhat negative/slightly"
            " negative, neutral/neu/mixed, somewhat positive/slightly positive, positive/pos, very positive/very"
            " pos/strongly positive/extremely positive"
        ),
        (
            "worst/terrible/awful/horrible/very poor/very bad, poor/bad, below average,"
            " fair/average/ok/okay/neutral/mediocre, above average, good, very good/great,"
            " excellent/outstanding/best/perfect/amazing"
        ),
        (
            "very dissatisfied/very unsatisfied/very unhappy, dissatisfied/unsatisfied/unhappy, neutral/neither,"
            " satisfied/happy, very satisfied/very happy"
        ),
        "strongly disagree, disagree, neutral/neither, agree, strongly agree",
        "very low, low, medium/moderate, high, very high",
        "false/f, true/t",
        "no/n, yes/y",
        "dislike/disliked/not recommended/thumbs down, like/liked/recommended/thumbs up",
    )
)
_NOTHING = frozenset({"n/a", "na", "nan", "null", "none", "nil", "-", "--", "?", "unknown", "unrated", "not rated"})


@dataclass(frozen=True)
class Scale:
    """What label values mean. names: in ordinal order, or sorted; index: the place of each value among them, for those
    that have one.

    left_out: rows by value that has none. rule: in words, for the reader.
    """

    names: tuple[str, ...]
    index: dict[str, int]
    ordinal: bool
    rule: str
    left_out: dict[str, int] = field(default_factory=dict)


def label_text(value: Any) -> str | None:
    """A label as text; None for what is missing (NaN is not equal to itself)."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def find_scale(counts: Mapping[str, int], where: str, chosen: Sequence[str] = ()) -> Scale:
    """The scale of the values in `counts` (rows by value): the one `chosen`, else the first that fits. Raises
    DataError.

    Whole numbers 0-4 that include 0 are the scale 0-4, within 1-5 the scale 1-5; 0 and 1 alone are two classes. "4
    stars", "4.0", "4/5" and "★★★★" count as 4; half stars are rounded up. Words from bad to good keep that order. What
    is mostly stars is stars: up to a tenth of the rows is left out. Other sets of 2 to 20 values are classes, in sorted
    order and not ordinal; whole numbers are ordinal."""
    if chosen:
        return _chosen(counts, where, chosen)
    if not counts:
        raise DataError(f"{where} has no labels; give a column of 2 to {MOST_LABELS} labels, such as the stars 1 to 5.")
    scale = _stars(counts, where) or _words(counts) or _classes(counts)
    if scale is None:
        number = (
            f"{len(counts)} different labels" if len(counts) > 1 else f"one label only, {next(iter(counts))[:40]!r}"
        )
        raise DataError(f"{where} has {number}; give 2 to {MOST_LABELS}, such as the stars 1 to 5.")
    return scale


def stars_of(label: str) -> float | None:
    """The number that a label says: "4", "4.0", "4,5", "4 stars", "4/5", "four stars", "★★★★☆"; None where it says
    none.
    """
    if match := _NUMBER.fullmatch(label):
        return float(match[1].replace(",", "."))
    if match := _SYMBOLS.fullmatch(label):
        return float(len(match[1]))
    word = re.sub(rf"[\s-]*{_STAR_WORDS}$", "", label.lower())
    return float(_COUNTED[word]) if word in _COUNTED else None


def _stars(counts: Mapping[str, int], where: str) -> Scale | None:
    """Stars, where most of the rows say a number; None where they do not."""
    numbers = {label: number for label in counts if (number := stars_of(label)) is not None}
    whole = {label: int(number) for label, number in numbers.items() if number.is_integer()}
    total = sum(counts.values())
    if sum(counts[label] for label in numbers) < total / 2 or not whole:
        return None
    if own := _own_numbers(counts, numbers, whole):
        return own
    scales = [
        _numbered(
            counts,
            {label: number - low for label, number in whole.items() if low <= number <= low + 4},
            low,
            low + 4,
            rule,
        )
        for low, rule in (
            (1, "whole numbers are stars, 1 to 5"),
            (0, "whole numbers from 0 to 4 as they stand, 0 the worst"),
        )
        if low or 0 in whole.values()
    ]
    halves = {
        label: math.ceil(number) - 1
        for label, number in numbers.items()
        if 0.5 <= number <= 5 and (2 * number).is_integer()
    }
    if len(halves) > sum(1 <= number <= 5 for number in whole.values()):
        scales.insert(0, _numbered(counts, halves, 1, 5, "half stars are rounded up: 0.5 counts as 1, 4.5 as 5"))
    best = max(scales, key=lambda scale: total - sum(scale.left_out.values()))
    outside = sum(best.left_out.values())
    if total - outside >= COVERED * total:
        return best
    if len(counts) > MOST_LABELS and outside > total / 2:
        return None
    others = ", ".join(
        f"{label[:20]!r} ({rows:,} rows)"
        for label, rows in sorted(best.left_out.items(), key=lambda item: -item[1])[:4]
    )
    raise DataError(
        f"{where} has stars {best.names[0]} to {best.names[-1]} in {(total - outside) / total:.0%} of its labelled rows"
        f" only, and beside them {others}; name the labels that are meant, such as --labels {','.join(best.names)}."
    )


def _own_numbers(counts: Mapping[str, int], numbers: Mapping[str, float], whole: Mapping[str, int]) -> Scale | None:
    """Whole numbers that are a scale of their own: 0 and 1, -1 to 1, or 1 to 10; None where they are 0 to 4 or 1 to 5
    stars.
    """
    seen = sorted(set(whole.values()))
    if len(numbers) != len(whole):
        return None
    total = sum(counts.values())
    two = {label: number for label, number in whole.items() if number in (0, 1)}
    if [number for number in seen if 0 <= number <= 4] == [0, 1] and sum(
        counts[label] for label in two
    ) >= COVERED * total:
        return _ranked(counts, two, "0 and 1: two classes, in that order")
    outside = [number for number in seen if not 0 <= number <= 5]
    rows = sum(counts[label] for label, number in whole.items() if not 0 <= number <= 5)
    wide = len(outside) > 2 and len(seen) <= MOST_LABELS and rows > (1 - COVERED) * total
    if len(whole) == len(counts) and (wide or seen in ([-1, 1], [-1, 0, 1])):
        return _ranked(counts, whole, f"whole numbers {seen[0]} to {seen[-1]}, in that order")
    return None


def _numbered(counts: Mapping[str, int], index: dict[str, int], low: int, high: int, rule: str) -> Scale:
    left = {label: rows for label, rows in counts.items() if label not in index}
    return Scale(tuple(map(str, range(low, high + 1))), index, True, rule, left)


def _ranked(counts: Mapping[str, int], ranks: Mapping[str, int], rule: str) -> Scale:
    """A scale of the ranks that occur, each by the name that most rows give it; a number by itself."""
    order = sorted(set(ranks.values()))
    spelled = {
        rank: max((label for label in ranks if ranks[label] == rank), key=lambda label: counts[label]) for rank in order
    }
    names = tuple(str(rank) if stars_of(name) == rank else name for rank, name in spelled.items())
    index = {label: order.index(rank) for label, rank in ranks.items()}
    return Scale(names, index, True, rule, {label: rows for label, rows in counts.items() if label not in index})


def _words(counts: Mapping[str, int]) -> Scale | None:
    """Words that are all of one wording; None where they are not. What says nothing (n/a, unknown) is left out."""
    said = {
        label: " ".join(re.split(r"[\s_-]+", label.casefold())) for label in counts if label.casefold() not in _NOTHING
    }
    for ranks in _WORDINGS:
        if not all(word in ranks for word in said.values()) or len(set(said.values())) < 2:
            continue
        order = {label: ranks[word] for label, word in said.items()}
        if len(set(order.values())) == len(set(said.values())):
            scale = _ranked(counts, order, "")
            return Scale(
                scale.names, scale.index, True, f"words from bad to good: {', '.join(scale.names)}", scale.left_out
            )
    return None


def _classes(counts: Mapping[str, int]) -> Scale | None:
    """2 to 20 values as they are, one in spite of upper and lower case."""
    spellings: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: -counts[label]):
        spellings.setdefault(label.casefold(), label)
    if not 2 <= len(spellings) <= MOST_LABELS:
        return None
    names = sorted(spellings.values())
    index = {label: names.index(spellings[label.casefold()]) for label in counts}
    return Scale(tuple(names), index, False, "classes in alphabetical order, none better than another")


def _chosen(counts: Mapping[str, int], where: str, chosen: Sequence[str]) -> Scale:
    """The labels that the user lists, in that order; all other values are left out."""
    names = tuple(name.strip() for name in chosen)
    if not 2 <= len(names) <= MOST_LABELS or len({name.casefold() for name in names}) < len(names) or "" in names:
        raise DataError(
            f"The labels {','.join(names)[:80]!r} are not 2 to {MOST_LABELS} different ones; give a list such as"
            " 1,2,3,4,5."
        )
    keys: tuple[Callable[[str], Any], ...] = (
        str,
        str.casefold,
        lambda label: number if (number := stars_of(label)) is not None else label,
    )
    index: dict[str, int] = {}
    for label in counts:
        for key in keys:
            if key(label) in (known := [key(name) for name in names]):
                index[label] = known.index(key(label))
                break
    if not index:
        present = ", ".join(label[:20] for label in list(counts)[:8])
        raise DataError(f"{where} has none of the labels {', '.join(names)}; its labels are {present or 'all empty'}.")
    numbers = [stars_of(name) for name in names]
    rising = None not in numbers and numbers == sorted(numbers)  # type: ignore[type-var]
    words = None if rising else _words(Counter(names))
    ordinal = rising or (words is not None and words.names == names)
    rule = "the labels that were given, in that order" + ("" if ordinal else ", none better than another")
    return Scale(names, index, ordinal, rule, {label: rows for label, rows in counts.items() if label not in index})
