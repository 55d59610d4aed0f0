"""Numbers and sizes as text, for the terminal and the page, and values as JSON. Pure; knows no record and no page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MISSING = "-"
KiB, MiB, GiB = 1024, 1024**2, 1024**3


def size(count: int | float | None) -> str:
    """Bytes as B, KiB, MiB or GiB, with two decimals from MiB on."""
    if count is None:
        return MISSING
    for unit, name in ((GiB, "GiB"), (MiB, "MiB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count / KiB:.1f} KiB" if count >= KiB else f"{count:.0f} B"


def decimal_size(count: int) -> str:
    """Bytes as hardware is sold: MB below a gigabyte, GB from there on; decimal units."""
    if count < 10**9:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.0f} GB" if count % 10**9 == 0 else f"{count / 1e9:,.1f} GB"


def number(value: float | None, form: str = ".3f") -> str:
    return MISSING if value is None else format(value, form)


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def share(value: float) -> str:
    """A share (0 to 1) in whole percent."""
    return f"{100 * value:.0f} %"


def metric(value: float | None, form: str) -> str:
    """A metric in the form that METRICS gives it."""
    return percent(value) if form == "%" else number(value, form)


def plural(count: int, word: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as coarse as one would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shorten(text: str, length: int = 60) -> str:
    """The text on one line, cut at `length` characters."""
    return cut(" ".join(text.split()), length)


def cut(text: str, length: int) -> str:
    """The text as it is, of at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Settings of a run that were changed to make it fit, in words."""
    words = {"batch_size": "batch size {}", "accumulation": "accumulation {}", "max_length": "maximum length {}"}
    parts = [words[name].format(value) for name, value in changes.items() if name in words]
    return " with ".join([*parts, *(["gradient checkpointing"] if changes.get("gradient_checkpointing") else [])])


def to_json(value: Any) -> str:
    """One line of JSON that every parser reads: a number that is not finite becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
