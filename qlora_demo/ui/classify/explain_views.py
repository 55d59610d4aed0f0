"""Why a review got its stars, as HTML: its words on a scale from orange to blue, the deletion test beside it, and a
review's versions. Pure; a text stays as typed.

Size and kind of a line under each word say the same as the colours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from ...core.format import number
from ..templating import render

if TYPE_CHECKING:
    from ...engine.classify.explain import Explanation

FAINT = 0.05  # of the strongest word's score: below, a word is shown as plain text
ROWS = 40  # of the table, the strongest words
COMPARED = 4_000  # characters of a version, up to which its changes are marked: comparing takes the square of the words
TAGS = {"delete": ("del",), "insert": ("ins",), "replace": ("del", "ins"), "equal": ("",)}  # of a change, by its kind


class Version(NamedTuple):
    """A review that was asked about. `stars`: expected, None where labels are not ordinal."""

    text: str
    stars: float | None
    label: str


class Piece(NamedTuple):
    """A piece of the text. `kind`: for, against, unread, or "" for plain; `share` of the strongest word's score."""

    text: str
    kind: str = ""
    share: float = 0.0
    score: float = 0.0


def view_explanation(explanation: Explanation | None) -> str:
    """The review with its words marked, a legend, the deletion test, and the words in a table; "" without one."""
    if not explanation:
        return ""
    words = explanation.words
    return render(
        "classify/explanation.html.jinja",
        pieces=list(_pieces(explanation)),
        label=explanation.label,
        truncated=explanation.truncated,
        seen=explanation.seen,
        characters=len(explanation.text),
        words=len(words),
        strongest=sorted(words, key=lambda word: -abs(word.score))[:ROWS],
        test=explanation.deletion_test,
    )


def _pieces(explanation: Explanation) -> Iterator[Piece]:
    """The whole text, word by word, with what lies between the words."""
    text, words, last = explanation.text, explanation.words, 0
    strongest = max((abs(word.score) for word in words), default=0.0)
    for word in words:
        yield Piece(text[last : word.start])
        share = abs(word.score) / strongest if strongest else 0.0
        kind = "" if share < FAINT else "for" if word.score > 0 else "against"
        yield Piece(text[word.start : word.end], kind, share, word.score)
        last = word.end
    read = max(last, explanation.seen)
    yield Piece(text[last:read])
    if text[read:]:
        yield Piece(text[read:], "unread")


def view_history(versions: Sequence[Version]) -> str:
    """An edited review's versions, newest first: what was changed in the text, and how the stars followed."""
    if not versions:
        return ""
    first = versions[0]
    rows = [(1, _stars(first), "", [("", first.text)])]
    for place, (before, after) in enumerate(pairwise(versions), start=2):
        rows.append((place, _stars(after), _change(before, after), _diff(before.text, after.text)))
    return render("classify/history.html.jinja", versions=rows[::-1])


def _stars(version: Version) -> str:
    return version.label if version.stars is None else f"{number(version.stars, '.1f')} stars"


def _change(before: Version, after: Version) -> str:
    if before.stars is None or after.stars is None:
        return "no change" if before.label == after.label else f"was {before.label}"
    difference = after.stars - before.stars
    return f"{difference:+.1f}" if abs(difference) >= 0.05 else "no change"


def _diff(old: str, new: str) -> list[tuple[str, str]]:
    """`new` as (tag, text), the words that came in and went out in tags; without any where the two are long."""
    if max(len(old), len(new)) > COMPARED:
        return [("", new)]
    before, after = (re.findall(r"\s+|\w+|[^\w\s]+", text) for text in (old, new))
    pieces = []
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for tag in TAGS[kind]:
            pieces.append((tag, "".join(before[a:b] if tag == "del" else after[c:d])))
    return pieces
