"""Texts that occur several times: duplicates within a split, conflicting labels of one text, overlap of two splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...core.data_report import Contradiction, Leak
from .reviews import Reviews

EXAMPLES = 5


class TextKeys:
    """A number for each text, equal where the texts are, by split (Python's 64-bit hash: 10 million texts clash once in
    300,000 such files)."""

    def __init__(self, splits: Mapping[str, Reviews]):
        self._splits = splits
        self._keys: dict[str, NDArray[np.int64]] = {
            name: np.fromiter(map(hash, reviews.texts), np.int64, len(reviews)) for name, reviews in splits.items()
        }

    def duplicates(self) -> int:
        """Rows whose text came earlier in the same split. By sorting: numpy's own `unique` hashes, which is slower."""
        ordered = map(np.sort, self._keys.values())
        return sum(int((keys[1:] == keys[:-1]).sum()) for keys in ordered)

    def conflicts(self, names: Sequence[str]) -> tuple[int, tuple[Contradiction, ...]]:
        """(rows of texts that have several labels, over all splits; those with most rows as examples)."""
        if not names or not self._splits:
            return 0, ()
        keys = np.concatenate(list(self._keys.values()))
        labels = np.concatenate([np.asarray(reviews.labels, np.int32) for reviews in self._splits.values()])
        order = np.argsort(keys, kind="stable")
        keys, labels = keys[order], labels[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        sizes = np.diff(np.r_[starts, len(keys)])
        several = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
        examples = []
        for group in np.flatnonzero(several)[np.argsort(-sizes[several], kind="stable")][:EXAMPLES]:
            start, end = starts[group], starts[group] + sizes[group]
            counts = np.bincount(labels[start:end], minlength=len(names)).tolist()
            rows = {name: count for name, count in zip(names, counts, strict=True) if count}
            examples.append(Contradiction(text=self._text(int(order[start])), labels=rows))
        return int(sizes[several].sum()), tuple(examples)

    def overlaps(self) -> tuple[Leak, ...]:
        """For each pair of splits, in their order: texts of the earlier one that are in the later one too."""
        names, leaks = list(self._splits), []
        for i, known in enumerate(names):
            for later in names[i + 1 :]:
                rows = np.flatnonzero(np.isin(self._keys[later], self._keys[known]))
                if len(rows):
                    texts = tuple(dict.fromkeys(self._splits[later].texts[row] for row in rows[:50].tolist()))
                    leaks.append(Leak(known=known, judged=later, rows=len(rows), examples=texts[:EXAMPLES]))
        return tuple(leaks)

    def _text(self, row: int) -> str:
        for reviews in self._splits.values():
            if row < len(reviews):
                return reviews.texts[row]
            row -= len(reviews)
        raise IndexError(row)
