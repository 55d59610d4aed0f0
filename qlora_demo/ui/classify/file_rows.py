"""Rows of a classified file, a page at a time: read from the job's folder, all of them or those of a label or with some
words.

Knows neither page nor network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...storage.result_files import Layout, read_layout, read_rows

PAGE_ROWS = 20
EVERY, NONE = "All rows", "Rows without a prediction"


@dataclass(frozen=True)
class Found:
    """A page of rows with their numbers (from 1); `more`: whether there is another page."""

    layout: Layout
    rows: list[tuple[int, dict[str, Any]]]
    more: bool


def find_rows(folder: Path, label: str = EVERY, words: str = "", page: int = 0) -> Found | None:
    """Page `page` (from 0) of the rows with that label whose review holds `words`, whatever their case; None before
    there is a result.
    """
    try:
        layout = read_layout(folder)
        rows = read_rows(folder)
        fitting = ((at, row) for at, row in enumerate(rows, 1) if _asked_for(layout, label, words)(row))
        found = list(islice(fitting, page * PAGE_ROWS, (page + 1) * PAGE_ROWS + 1))
    except (OSError, ValueError):
        return None
    return Found(layout, found[:PAGE_ROWS], len(found) > PAGE_ROWS)


def _asked_for(layout: Layout, label: str, words: str) -> Callable[[dict[str, Any]], bool]:
    wanted, sought = layout.added["label"], words.strip().casefold()
    texts = [name for name in (layout.places["title"], layout.places["text"]) if name]

    def fits(row: dict[str, Any]) -> bool:
        right = label == EVERY or row[wanted] == (None if label == NONE else label)
        return right and (not sought or any(sought in str(row[name] or "").casefold() for name in texts))

    return fits
