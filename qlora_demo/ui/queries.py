"""What a browser's query holds. It comes from anyone: what is not of the kind that is asked for is taken as not
there.
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
