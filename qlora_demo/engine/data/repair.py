"""Texts that came through the wrong hands: HTML entities (`&quot;`) and mojibake (`cafÃ©`), found and mended.

Changes nothing else: quotes stay as curly as they were.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import Any

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")


def has_entities(text: str) -> bool:
    return "&" in text and any(html.unescape(found) != found for found in _ENTITY.findall(text))


def is_garbled(text: str) -> bool:
    """Whether the text was decoded by a wrong encoding once, and can be brought back."""
    if text.isascii():
        return False
    from ftfy.badness import is_bad

    return bool(is_bad(text)) and _fixed(text) != text


def mend(text: str) -> str:
    """Entities, also those that were escaped twice, to characters; mojibake to what it was."""
    if "&" in text:
        for _ in range(2):
            text = html.unescape(text)
    return text if text.isascii() else _fixed(text)


def _fixed(text: str) -> str:
    from ftfy import fix_encoding

    return fix_encoding(text, _settings())


@cache
def _settings() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        normalization=None,
    )
