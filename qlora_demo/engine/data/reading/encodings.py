"""Which encoding a file of text is in: by its mark, by its zero bytes, by being valid UTF-8 to its end, else by a guess
from its bad lines.

Knows nothing of rows and columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from ....core.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The encodings that files of reviews come in, the commonest first: it wins where they cannot be distinguished.
_LIKELY = (
    "cp1252",
    "cp1251",
    "cp850",
    "cp437",
    "cp1250",
    "mac_roman",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
    "euc_jp",
    "koi8_r",
    "cp866",
    "cp852",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "tis_620",
)
_EVIDENCE_BYTES = 1 << 18
_MOSTLY = 0.9  # of the lines with other than ASCII characters: so many valid ones make a file UTF-8 with damaged lines


@dataclass(frozen=True)
class Encoding:
    """name: Python's. bad_lines: how many lines are not valid in it, as far as the file was read."""

    name: str
    bad_lines: int = 0

    @property
    def errors(self) -> str:
        """How to decode so that bad bytes can still be recognised; the wide ones know no surrogateescape."""
        return "replace" if self.name.startswith(("utf-16", "utf-32")) else "surrogateescape"


def named_encoding(name: str) -> Encoding:
    """The encoding that a user named; its lines are not looked at, so bad ones are expected. Raises DataError."""
    try:
        b"test".decode(name, "replace")  # also refuses what is no encoding of text, such as hex
        return Encoding(codecs.lookup(name).name, bad_lines=1)
    except (LookupError, ValueError):
        raise DataError(
            f"There is no encoding {name[:40]!r}; give one such as utf-8, utf-16, cp1252 or cp850."
        ) from None


def find_encoding(head: bytes, blocks: Iterable[bytes]) -> Encoding:
    """The encoding of a text whose first bytes are `head`; `blocks` (all of it) are read to the end only where no mark
    tells.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name)
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 6 and max(even, odd) > 4 * min(even, odd):
        return Encoding("utf-16-le" if odd > even else "utf-16-be")
    good = bad = 0
    evidence = bytearray()
    for block in _whole_lines(blocks):
        if block.isascii():
            continue
        lines = [line for line in block.split(b"\n") if not line.isascii()]
        if _is_utf8(block):
            good += len(lines)
            continue
        wrong = [line for line in lines if not _is_utf8(line)]
        good, bad = good + len(lines) - len(wrong), bad + len(wrong)
        for line in wrong:
            if len(evidence) < _EVIDENCE_BYTES:
                evidence += line[:10_000] + b"\n"
    if bad <= (1 - _MOSTLY) * (good + bad):
        return Encoding("utf-8", bad)
    return Encoding(_guess(bytes(evidence)), bad_lines=1)


def _whole_lines(blocks: Iterable[bytes]) -> Iterable[bytes]:
    """The blocks cut at line ends, so that no character is cut in two; a line of several blocks is cut where it is."""
    carry = b""
    for block in blocks:
        at = block.rfind(b"\n") + 1
        if not at and len(carry) < (8 << 20):
            carry += block
            continue
        yield carry + block[:at]
        carry = block[at:]
    if carry:
        yield carry


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guess(evidence: bytes) -> str:
    """The likely encoding that charset-normalizer finds cleanest; of equal ones that of a known language, then the
    commonest."""
    from charset_normalizer import from_bytes

    ranks = {
        name: (round(match.chaos, 2), match.coherence == 0, _LIKELY.index(name))
        for match in from_bytes(evidence, cp_isolation=list(_LIKELY), threshold=1.0)
        for name in match.could_be_from_charset
        if name in _LIKELY
    }
    return min(ranks, key=lambda name: ranks[name], default="cp1252")
