"""Repair of texts that were escaped or decoded wrongly on their way: HTML entities (`&quot;`) and mojibake (`cafÃ©`).

Nothing else is changed: curly quotes stay curly.
"""

from __future__ import annotations

from ftfy import TextFixerConfig, fix_encoding, fix_text
from ftfy.badness import is_bad
from ftfy.fixes import unescape_html

_SETTINGS = TextFixerConfig(
    unescape_html=True,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)


def has_entities(text: str) -> bool:
    """Whether HTML entities stand in the text."""
    return "&" in text and unescape_html(text) != text


def has_mojibake(text: str) -> bool:
    """Whether the text was decoded by a wrong encoding once, and can be restored."""
    return not text.isascii() and bool(is_bad(text)) and fix_encoding(text, _SETTINGS) != text


def repair(text: str) -> str:
    """The text with entities, also those escaped several times, as characters, and mojibake as it was."""
    return text if "&" not in text and text.isascii() else fix_text(text, _SETTINGS)
