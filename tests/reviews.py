"""A few reviews of the sample as a user's own file: the same ones at every call."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.serving import ROOT


def first_reviews(each: int) -> list[dict[str, Any]]:
    """The first `each` training reviews of every star: {text, label (0 to 4), ...}."""
    rows = [json.loads(line) for line in (ROOT / "assets" / "sample_reviews" / "train.jsonl").read_text().splitlines()]
    return [row for label in range(5) for row in [row for row in rows if row["label"] == label][:each]]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """These, one JSON object a line; the path as a text."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_reviews(path: Path, each: int) -> Path:
    """They, one JSON object a line: {text, stars (1 to 5)}."""
    write_rows(path, ({"text": row["text"], "stars": row["label"] + 1} for row in first_reviews(each)))
    return path


def shipped_report() -> dict[str, Any]:
    """The report of the adapter that the app ships, as its file has it."""
    report: dict[str, Any] = json.loads((ROOT / "assets" / "adapter" / "report.json").read_text())
    return report
