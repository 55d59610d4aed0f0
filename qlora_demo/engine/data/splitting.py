"""Divides reviews into train, validation and test splits, and draws stratified subsets. Knows labels and keys, no
texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .reviews import SPLITS


def divide(labels: Sequence[int], keys: NDArray[np.int64], names: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Row numbers, 80 / 10 / 10 by class; rows of one key fall into the same split, so that no text is both
    trained and evaluated on."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # groups by their first rows
    members = np.argsort(rank[group], kind="stable")
    sizes = np.bincount(rank[group])
    starts = np.cumsum(sizes) - sizes
    label_of = np.asarray(labels)[members[starts]]
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for label in sorted(set(label_of.tolist()), key=lambda label: names[label]):
        groups = np.flatnonzero(label_of == label).tolist()
        random.Random(f"{seed} {names[label]}").shuffle(groups)
        cut = max(1, round(len(groups) / 10)) if len(groups) >= 3 else 0
        for name, chosen in (
            ("validation", groups[:cut]),
            ("test", groups[cut : 2 * cut]),
            ("train", groups[2 * cut :]),
        ):
            ends = np.cumsum(sizes[chosen])
            within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes[chosen], sizes[chosen])
            parts[name].append(members[np.repeat(starts[chosen], sizes[chosen]) + within])
    return {name: np.concatenate(rows).tolist() if rows else [] for name, rows in parts.items()}


def stratified(labels: Sequence[int], rows: int, seed: int) -> list[int]:
    """Indices of a shuffled subset of exactly `rows` (or all, where there are fewer) with the classes' shares of the
    whole; each class at least once where there are at least as many rows as classes.

    Files are often sorted by star: the first N rows would be one class (the tutorial's fifth mistake).
    """
    _, first, sizes = np.unique(np.asarray(labels, np.int64), return_index=True, return_counts=True)
    counts = _apportioned(sizes, first, min(rows, len(labels)))
    members = np.split(np.argsort(np.asarray(labels, np.int64), kind="stable"), np.cumsum(sizes)[:-1])
    generator = random.Random(seed)
    chosen: list[int] = []
    for indices, count in zip(members, counts, strict=True):
        chosen += indices[generator.sample(range(len(indices)), count)].tolist()
    generator.shuffle(chosen)
    return chosen


def _apportioned(sizes: NDArray[np.int64], first: NDArray[np.int64], rows: int) -> list[int]:
    """`rows` among classes of these sizes by the largest remainder; `first` (their first rows) settles ties."""
    if not len(sizes):
        return []
    shares = rows * sizes / sizes.sum()
    counts = np.floor(shares).astype(int)
    if rows >= len(sizes):
        counts = np.maximum(counts, 1)
    order = np.argsort(first)
    while (missing := rows - counts.sum()) != 0:
        if missing > 0:
            open_ = order[counts[order] < sizes[order]]
            counts[open_[np.argmax((shares - counts)[open_])]] += 1
        else:  # the classes that got their one row beyond their share
            open_ = order[counts[order] > 1]
            counts[open_[np.argmin((shares - counts)[open_])]] -= 1
    result: list[int] = counts.tolist()
    return result
