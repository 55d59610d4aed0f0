"""A piece of a page as a user's browser reads it, and texts of users that are out for mischief."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script> & <img src=x onerror=alert(1)>",
    "'\"` onmouseover=x **bold** _it_ [a](javascript:alert(1)) # head $\\frac{1}{2}$ \\(x\\) {{value}} ${1+1}",
    "👩‍👩‍👧 fünf Sterne\u202eabc\u202c\u200f שלום عربى 很好用",
    "two\nlines\t and  spaces ",
    "\"'><img src=x onerror=alert(1)> &lt;b&gt; &amp; &#x41; as typed",
)
VOID = {"br", "hr", "img", "input", "line", "rect"}


class Page(HTMLParser):
    """Tags in their order, names of attributes and the text; `inside` is the text within elements of class `within`.

    Fails where elements are not closed in order."""

    def __init__(self, source: str, within: str = ""):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = self.inside = ""
        self._within = within
        self._open: list[tuple[str, bool]] = []
        self.feed(str(source))
        self.close()
        assert not self._open, f"not closed: {self._open}"

    @property
    def words(self) -> str:
        """The text with single spaces, tags apart."""
        return " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            outer = bool(self._open) and self._open[-1][1]
            self._open.append((tag, outer or self._within in (dict(attrs).get("class") or "").split()))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1][1]:
            self.inside += data


def words_of(html: str) -> str:
    """What is read of it, a space where a tag was."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())
