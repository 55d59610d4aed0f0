"""Text of users as Markdown that is shown and never interpreted; tables and code blocks made of it.

Knows neither reports nor the Hub. What is escaped stays escaped under HTML, GitHub's Markdown and LaTeX in dollars.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# As numbers, which no reader of Markdown takes for structure; a backslash would be LaTeX to some.
_SPELLED = {ord(sign): f"&#{ord(sign)};" for sign in "`*_[]|$~\\^#{}@"} | {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
}
_JOINERS = "\u200c\u200d"  # invisible too, but without them Persian words and families of emoji fall apart
_LINK = re.compile(r"(?i)(?<=\bwww)\.|:(?=//|[\w+-]+:)")  # of an address, or of an emoji by its name
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def one_line(text: str) -> str:
    """`text` on one line, without what steers its reader: control characters, direction marks, half characters."""
    return " ".join("".join(map(_visible, text)).split())


def plain(text: object) -> str:
    """`text` as Markdown (and HTML) that shows it, letter by letter, within a line or a cell of a table."""
    escaped = _LINK.sub(lambda found: f"&#{ord(found[0])};", one_line(str(text)).translate(_SPELLED))
    return f"&#{ord(escaped[0])};{escaped[1:]}" if escaped[:1] in ("-", "+", "=") else escaped


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code_block(code: str, language: str) -> str:
    """`code` in a fence longer than any within it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def literal(value: str | Sequence[str]) -> str:
    """A string, or a list of them, as Python source in ASCII; nothing in it can end a fence or begin a tag."""
    if not isinstance(value, str):
        return f"[{', '.join(map(literal, value))}]"
    return '"' + "".join(map(_source_of, value)) + '"'


def shell_word(text: str) -> str:
    """`text` as one word for bash or zsh; whatever is unusual in it by its bytes."""
    if _SAFE.fullmatch(text):
        return text
    kept = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _%+=:,./()-")
    return (
        "$'"
        + "".join(chr(byte) if byte in kept else f"\\x{byte:02x}" for byte in text.encode("utf-8", "replace"))
        + "'"
    )


def _source_of(sign: str) -> str:
    if sign.isascii() and sign.isprintable() and sign not in '"\\<>`$':
        return sign
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _visible(sign: str) -> str:
    kind = unicodedata.category(sign)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    if kind == "Cs":
        return "\ufffd"
    return "" if kind == "Cf" and sign not in _JOINERS else sign
