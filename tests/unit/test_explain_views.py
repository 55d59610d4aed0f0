"""What is shown of an explanation: the text as it was typed, marked without colour too, and the deletion test in
words."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from qlora_demo.cli.lines import explanation
from qlora_demo.engine.classify.explain import DeletionTest, Explanation, Word
from qlora_demo.ui.classify.explain_views import Version, view_explanation, view_history
from tests.pages import HOSTILE, Page

TEST = DeletionTest(words=6, removed=1, draws=10, top=0.62, random=0.155, ratio=4.0, note="")
FOREIGN = {"script", "img", "a", "x", "c"}


def explained(text: str, scores: dict[str, float], **more: Any) -> Explanation:
    """Words of `scores` in the order of the text, the others score nothing."""
    words = [
        Word(found.group(), found.start(), found.end(), scores.get(found.group(), 0.0))
        for found in re.finditer(r"\w+|[^\w\s]+", text)
    ]
    answer = {"text": text, "label": "2 stars", "probability": 0.7, "seen": len(text), "truncated": False}
    found = {"words": words, "logit": 2.0, "blank_logit": 0.0, "completeness_error": 0.0, "deletion_test": TEST}
    return Explanation(**{**answer, **found, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_as_typed(text: str) -> None:
    scores = {word: 1.0 + place for place, word in enumerate(re.findall(r"\w+|[^\w\s]+", text))}
    page = Page(view_explanation(explained(text, scores, label="<i>2</i> stars")), "word-text")
    assert page.inside == text
    assert not FOREIGN & {*page.tags}


@pytest.mark.parametrize("text", HOSTILE)
def test_so_does_each_version(text: str) -> None:
    html = view_history([Version("before", 3.0, "<b>"), Version(text, None, "<b>")])
    assert not {"b", *FOREIGN} & {*Page(html).tags}
    newest = html[html.index("<q") : html.index("</q>")]
    assert text in unescape(re.sub(r"<del>.*?</del>|<[^>]*>", "", newest, flags=re.DOTALL))
    assert "&lt;b&gt;" in html


def test_words_are_marked_by_sign_and_size_and_not_by_colour_alone() -> None:
    scores = {"never": 2.0, "Great": -1.0, "but": 0.5, "it": 0.01}
    html = view_explanation(explained("Great case, but it never holds", scores))
    rows = re.findall(r"<bdi>(.*?)</bdi></th><td>(\w+)</td><td class=\"number\">(.*?)</td>", html)
    assert rows[:3] == [("never", "for", "+2.000"), ("Great", "against", "-1.000"), ("but", "for", "+0.500")]
    assert "for 2 stars" in html and "against it" in html


def test_the_deletion_test_is_said_in_words() -> None:
    html = view_explanation(explained("It never works for me today", {"never": 1.0}))
    shown = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "changes by 62.0 points" in shown and "by 15.5 points" in shown and "4.0 times as much" in shown


def test_a_test_that_tells_nothing_says_why() -> None:
    short = replace(TEST, top=None, random=None, ratio=None, note="Fewer than <5> words.")
    html = view_explanation(explained("bad", {"bad": 1.0}, deletion_test=short))
    assert "Fewer than &lt;5&gt; words." in html and "times as much" not in html and "word-top" not in html
    still = replace(TEST, random=0.0, ratio=None, note="It stays.")
    html = view_explanation(explained("bad", {"bad": 1.0}, deletion_test=still))
    assert "It stays." in html and "times as much" not in html


def test_what_was_not_read_is_shown_as_such() -> None:
    found = explained("It works. And this is the end", {"works": 1.0}, seen=9, truncated=True)
    html = view_explanation(replace(found, words=found.words[:3]))
    assert '<span class="word-unread"> And this is the end</span>' in html
    assert "read 9 of 29 characters" in html
    assert Page(html, "word-text").inside == found.text


def test_nothing_to_show() -> None:
    assert view_explanation(None) == view_history([]) == ""
    html = view_explanation(explained("\u200b", {}))
    assert Page(html, "word-text").inside == "\u200b" and "nan" not in html, "scores of zero give no scale"


def test_versions_tell_what_changed_and_how_the_stars_followed() -> None:
    first, second = Version("It barely works.", 2.2, "2 stars"), Version("It easily works!", 3.1, "3 stars")
    html = view_history([first, second, Version("It easily works!", 3.12, "3 stars")])
    items = re.findall(r'<li value="(\d)">(.*?)</li>', html)
    assert [number for number, _ in items] == ["3", "2", "1"], "the newest first"
    assert "<strong>3.1 stars</strong> <small>no change</small>" in items[0][1] and "<ins>" not in items[0][1]
    assert "<strong>3.1 stars</strong> <small>+0.9</small>" in items[1][1]
    assert "It <del>barely</del><ins>easily</ins> works<del>.</del><ins>!</ins>" in items[1][1]
    assert "<strong>2.2 stars</strong></span>" in items[2][1]
    named = view_history([Version("a", None, "<bad>"), Version("b", None, "good"), Version("c", None, "good")])
    assert "was &lt;bad&gt;" in named and "no change" in named


def test_the_terminal_shows_the_strongest_words_and_the_test() -> None:
    found = explained("Great case, but it never holds", {"never": 2.0, "Great": -1.0, "but": 0.5})
    said = explanation(found).splitlines()
    assert said[0].startswith("2 stars  70.0 % sure")
    assert re.fullmatch(r"  \+2\.000  \+{24}  never", said[1]) and re.fullmatch(r"  -1\.000  -{12} {14}Great", said[2])
    assert said[-1].startswith("Deletion test: without the top 1 of 6 words") and "4.0 times as far" in said[-1]
    many = explained(
        " ".join(f"w{i}" for i in range(30)), {f"w{i}": float(i) for i in range(30)}, seen=10, truncated=True
    )
    assert "and 18 words of less weight" in explanation(many) and "10 of 109 characters were read" in explanation(many)
