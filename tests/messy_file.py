"""A spreadsheet of reviews as people have them: formulas, markup, marks of direction, empty and huge texts, rows that
do not fit."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.reviews import first_reviews

ODD = (
    "<script>document.title='owned'</script> Great **sound**, $\\frac{1}{2}$ the price &amp; it works.",
    "\u202eesrever ni\u202c and back, it is fine.",
    "مُمتاز، أنصح به 😀👍🏽",
    '=HYPERLINK("http://example.com")',
    "@SUM(1)",
)
COLUMNS = ("id", "Review", "rating", "note", "stars")
REPEATED = "It does what it should, nothing more."


def write_messy(path: Path, each: int = 10) -> Path:
    """5 * each + 10 rows that can be read and one that cannot; `rating` is right, `stars` is a column that clashes with
    ours."""
    rows = [(row["text"], str(row["label"] + 1)) for row in first_reviews(each)]
    rows += [
        *((text, "") for text in ODD),
        ("", "3"),
        ("x" * 50_001, "1"),
        (REPEATED, "3"),
        (REPEATED, "3"),
        ("two\nlines; one cell", "4"),
    ]
    notes = ("-3", "+1.5", "=1+1", "-2+3", "\tx", "plain")
    file = io.StringIO()
    writer = csv.writer(file, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((i, text, stars, notes[i % len(notes)], "a") for i, (text, stars) in enumerate(rows, 1))
    path.write_text(f"\ufeff{file.getvalue()}99;too few\n", encoding="utf-8")
    return path
