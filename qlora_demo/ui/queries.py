"""What a browser sends: queries, and the keys of its runs. It comes from anyone: a value that is not of the kind asked
for counts as missing.
"""

from __future__ import annotations

from typing import Any


def text_of(query: Any, name: str) -> str:
    """A text of the query; "" where there is none, which is no run and no split."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, str) else ""


def number_of(query: Any, name: str) -> int | None:
    """A whole number from 0 on; None where there is none."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def as_keys(sent: Any) -> dict[str, str]:
    """The keys of runs, by run; {} where something else was sent."""
    return {run: key for run, key in sent.items() if isinstance(key, str)} if isinstance(sent, dict) else {}


def key_of(sent: Any, run: Any) -> str:
    """The browser's key of a run; "" where it has none."""
    return as_keys(sent).get(run, "") if isinstance(run, str) else ""
