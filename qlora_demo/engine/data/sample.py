"""The embedded sample reviews, and the mix of them that the shipped adapter learns from."""

from __future__ import annotations

import random

from ...core.paths import ASSETS
from .reading.chunks import Row
from .reading.tables import Rows, Table, open_table
from .reviews import SPLITS

SAMPLE_LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
SAMPLES = ("sample", "sample-mix")


def open_sample(name: str) -> dict[str, Table | Rows]:
    """The tables of one of SAMPLES, by split."""
    tables: dict[str, Table | Rows] = {
        split: open_table(ASSETS / "sample_reviews" / f"{split}.jsonl") for split in SPLITS
    }
    if name == "sample-mix":
        train = tables["train"]
        rows: list[Row] = [dict(zip(train.columns, row, strict=True)) for chunk in train.chunks() for row in chunk.rows]
        tables["train"] = Rows(name, _mixed(rows))
    return tables


def _mixed(rows: list[Row]) -> list[Row]:
    """All plain reviews, every third subtle one, and plain ones joined in pairs of equal stars.

    Chosen on real reviews (validation), which are longer and less of one piece than the sample's: sarcasm written for
    the sample teaches the sample more than it teaches reality, and joined reviews, three for ten others, teach both
    (benchmarks/sample_adapter.md)."""
    subtle = [i for i, row in enumerate(rows) if row["style"] == "subtle"]
    left_out = {i for n, i in enumerate(subtle) if n % 3}
    kept = [row for i, row in enumerate(rows) if i not in left_out]
    plain: dict[object, list[Row]] = {}
    for row in kept:
        if row["style"] == "plain":
            plain.setdefault(row["label"], []).append(row)
    generator = random.Random(7)  # one mix for all seeds, so that seeds compare
    joined: list[Row] = []
    for _ in range(3 * len(kept) // 10):
        first, second = generator.sample(plain[generator.choice(list(plain))], 2)
        joined.append({**first, "text": f"{first['text']} {second['text']}"})
    return kept + joined
