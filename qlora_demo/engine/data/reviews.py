"""Reviews in splits: texts, labels as indices, and how they were read.

A label is an index 0..k-1 everywhere inside the engine; `DataSet.labels` holds the names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.run_report import DataSummary

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Reviews:
    """Texts and their labels (indices, -1 = none), side by side. Those of `read_all` are packed: they read like a
    list.

    keys: equal where two texts are, their titles aside; by them a file is divided."""

    texts: list[str]
    labels: list[int]
    keys: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def nbytes(self) -> int:
        """Memory of packed reviews."""
        return getattr(self.texts, "nbytes", 0) + 16 * len(self.labels)

    def listed(self) -> Reviews:
        """The same with the texts as a list."""
        return Reviews(list(self.texts), self.labels)

    def take(self, order: Sequence[int]) -> Reviews:
        """The reviews of these indices, in this order."""
        return Reviews([self.texts[i] for i in order], [self.labels[i] for i in order])


NO_REVIEWS = Reviews([], [])


@dataclass(frozen=True)
class Origin:
    """How the rows were read: the columns, the format (None where that means nothing), the rule of the labels.

    rows: all of them, also those left out. first_lines: of those left out, by reason (row numbers where there are no
    lines)."""

    rows: int = 0
    text_column: str = ""
    title_column: str = ""
    label_column: str = ""
    columns: tuple[str, ...] = ()
    label_rule: str = ""
    kind: str = ""
    packing: str = ""
    encoding: str | None = None
    encoding_guessed: bool = False
    delimiter: str | None = None
    header: bool | None = None
    first_lines: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Three splits. `ordinal`: the labels are stars in rising order. `skipped` counts rows left out, by reason.

    revision: the commit (tag, branch) asked of the Hub, "" where none was.
    """

    name: str
    labels: tuple[str, ...]
    ordinal: bool
    splits: dict[str, Reviews]
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    revision: str = ""
    origin: Origin = Origin()

    def only(self, split: str) -> DataSet:
        """The same with this split alone; "" = all of them. Raises DataError."""
        if not split:
            return self
        if split not in self.splits:
            raise DataError(f"There is no split {split[:40]!r}; the splits are {', '.join(self.splits)}.")
        return replace(self, splits={split: self.splits[split]})

    def describe(self) -> DataSummary:
        """What a report keeps: counts and a SHA-256 over all texts and labels in order, and over the test's alone;
        never the texts.
        """
        digest, of_test = hashlib.sha256(), hashlib.sha256()
        for name in SPLITS:
            for text, label in zip(self.splits[name].texts, self.splits[name].labels, strict=True):
                line = f"{name}\0{label}\0{text}\n".encode()
                digest.update(line)
                if name == "test":
                    of_test.update(line)
        counts = {name: Counter(self.splits[name].labels) for name in SPLITS}
        return DataSummary(
            name=self.name,
            revision=self.revision,
            labels=self.labels,
            ordinal=self.ordinal,
            label_rule=self.origin.label_rule,
            skipped=self.skipped,
            notes=self.notes,
            rows={name: len(self.splits[name]) for name in SPLITS},
            balance={name: tuple(counts[name][i] for i in range(len(self.labels))) for name in SPLITS},
            sha256=digest.hexdigest(),
            test_sha256=of_test.hexdigest(),
        )
