"""Why a review got its stars, as HTML: its words on a scale from orange to blue, the deletion test beside it, and a
review's versions.

Pure: plain functions of an explanation's dict. Every text is escaped and stays as typed. Works in the style sheet's
colours; size and kind of a line under each word say the same without them. Knows no handler."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from itertools import pairwise
from typing import Any

from ...core.format import number, shorten

FAINT = 0.05  # of the strongest word's score: below, a word is shown as plain text
ROWS = 40  # of the table, the strongest words
COMPARED = 4_000  # characters of a version, up to which its changes are marked: comparing takes the square of the words
Version = tuple[str, float | None, str]  # text, expected stars (None where labels are not ordinal), label


def view_explanation(found: Mapping[str, Any] | None) -> str:
    """The review with its words marked, a legend, the deletion test, and the words in a table; "" without one.

    `found` as the `explain` command prints it.
    """
    if not found:
        return ""
    label = escape(found["label"])
    strongest = max((abs(word["score"]) for word in found["words"]), default=0.0)
    legend = (
        f'<p class="legend word-legend"><span><i class="word-for" style="--score:0.8"></i>for {label}</span>'
        '<span><i class="word-against" style="--score:0.8"></i>against it</span><span>thicker: more</span></p>'
    )
    return (
        f'<div class="word-why"><div><p class="word-text" dir="auto">{"".join(_marked(found, strongest))}</p>{legend}'
        f"{_say_cut(found)}{_table(found['words'], label)}</div>{view_deletion(found['deletion_test'], found['label'])}</div>"  # noqa: E501
    )


def _marked(found: Mapping[str, Any], strongest: float) -> Iterator[str]:
    """The whole text, escaped, word by word; what lies between the words is as it was typed."""
    text, last = found["text"], 0
    for word in found["words"]:
        yield escape(text[last : word["start"]])
        share = abs(word["score"]) / strongest if strongest else 0.0
        shown = escape(text[word["start"] : word["end"]])
        if share >= FAINT:
            kind = "for" if word["score"] > 0 else "against"
            shown = f'<span class="word-{kind}" style="--score:{share:.2f}" title="{word["score"]:+.3f}">{shown}</span>'
        yield shown
        last = word["end"]
    read = max(last, found["seen"])
    yield escape(text[last:read])
    if text[read:]:
        yield f'<span class="word-unread">{escape(text[read:])}</span>'


def _say_cut(found: Mapping[str, Any]) -> str:
    if not found["truncated"]:
        return ""
    return (
        f'<p class="quiet">The model read {found["seen"]:,} of {len(found["text"]):,} characters; the crossed-out end'
        " had no say.</p>"
    )


def view_deletion(test: Mapping[str, Any], label: str) -> str:
    """Whether the marked words are the ones that count, in a sentence and as two bars."""
    title = "<h3>Does it hold?</h3>"
    if test["top"] is None:
        return f'<div class="word-test">{title}<p class="quiet">{escape(test["note"])}</p></div>'
    count = f"{test['removed']} word{'s' * (test['removed'] != 1)}"
    times = f", {number(test['ratio'], '.1f')} times as far" if test["ratio"] is not None else ""
    bars = "".join(
        f'<div class="share"><span>{name}</span><div class="bars"><i class="{kind}"'
        f' style="width:{100 * test[name]:.1f}%"></i></div><span class="number">{_points(test[name])}</span></div>'
        for name, kind in (("top", "word-top"), ("random", "word-random"))
    )
    return (
        f'<div class="word-test">{title}<p>Without the top {count} the probability of {escape(label)} moves by '
        f"<strong>{_points(test['top'])}</strong>; without random ones by {_points(test['random'])} (mean of"
        f" {test['draws']} choices)"
        f'{times}.</p><div class="shares" aria-hidden="true">{bars}</div>'
        + (f'<p class="quiet">{escape(test["note"])}</p>' if test["note"] else "")
        + '<p class="caption">Deletion test: in percentage points, each time read anew by the same network.</p></div>'
    )


def _points(moved: float) -> str:
    return f"{100 * moved:.1f} points"


def _table(words: Sequence[Mapping[str, Any]], label: str) -> str:
    """The same for those who do not see colours, or want the numbers."""
    strongest = sorted(words, key=lambda word: -abs(word["score"]))[:ROWS]
    rows = "".join(
        f'<tr><th scope="row"><bdi>{escape(shorten(word["text"], 40))}</bdi></th>'
        f'<td>{"for" if word["score"] > 0 else "against"}</td><td class="number">{word["score"]:+.3f}</td></tr>'
        for word in strongest
    )
    more = f"<caption>The {ROWS} strongest of {len(words):,}</caption>" if len(words) > ROWS else ""
    return (
        '<details class="word-numbers"><summary>The words in numbers</summary><div class="scroll"><table'
        f' class="plain">{more}<thead><tr><th scope="col">Word</th><th scope="col">Speaks</th><th scope="col"'
        f' class="number">Logit of {label}</th></tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def view_history(versions: Sequence[Version]) -> str:
    """An edited review's versions, newest first: what was changed in the text, and how the stars followed."""
    if not versions:
        return ""
    changes = [_first(versions[0]), *(_next(before, after) for before, after in pairwise(versions))]
    rows = "".join(f'<li value="{place}">{changes[place - 1]}</li>' for place in range(len(changes), 0, -1))
    return f'<ol class="word-versions" reversed>{rows}</ol>'


def _first(version: Version) -> str:
    text, stars, label = version
    return f'<span class="word-stars"><strong>{_stars(stars, label)}</strong></span><q dir="auto">{escape(text)}</q>'


def _next(before: Version, after: Version) -> str:
    (old, had, _), (text, has, label) = before, after
    if had is not None and has is not None:
        moved = f"{has - had:+.1f}" if abs(has - had) >= 0.05 else "no change"
    else:
        moved = "no change" if before[2] == label else f"was {escape(before[2])}"
    return (
        f'<span class="word-stars"><strong>{_stars(has, label)}</strong> <small>{moved}</small></span><q'
        f' dir="auto">{_diff(old, text)}</q>'
    )


def _stars(stars: float | None, label: str) -> str:
    return escape(label) if stars is None else f"{stars:.1f} stars"


def _diff(old: str, new: str) -> str:
    """`new`, with the words that came in and went out marked; just the text where the two are long."""
    if max(len(old), len(new)) > COMPARED:
        return escape(new)
    ours, theirs = (re.findall(r"\s+|\w+|[^\w\s]+", text) for text in (old, new))
    shown = ""
    for kind, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        out, into = escape("".join(ours[a:b])), escape("".join(theirs[c:d]))
        shown += (
            into if kind == "equal" else (f"<del>{out}</del>" if out else "") + (f"<ins>{into}</ins>" if into else "")
        )
    return shown
