"""What every reader of rows hands out, and what it may not take: chunks of rows, a tally of those left out, limits.

Knows no format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CELL_CHARACTERS = 1_000_000
LINE_CHARACTERS = 4_000_000
CHUNK_ROWS = 10_000
SHOWN_LINES = 5
Row = Mapping[str, object]  # cells by column, each any JSON value


@dataclass(frozen=True)
class Chunk:
    """Rows (cells in the columns' order; text from CSV, any JSON value else) and the line, or number, that each begins
    on (from 1).
    """

    rows: list[list[Any]]
    lines: Sequence[int]


@dataclass
class Tally:
    """Rows left out: how many by reason, and the first lines of each."""

    counts: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, line: int, rows: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + rows
        known = self.lines.setdefault(reason, [])
        if len(known) < SHOWN_LINES:
            known.append(line)

    def add_all(self, other: Tally) -> None:
        """What another reading left out."""
        for reason, rows in other.counts.items():
            for i, line in enumerate(other.lines[reason]):
                self.add(reason, line, 0 if i else rows)
