"""Which reviews are trained on and which are judged, and a subset with the shares of the whole. Knows labels and keys,
no texts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .hub import SPLITS


def divide(labels: Sequence[int], keys: NDArray[np.int64], names: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Row numbers, 80 / 10 / 10 by class; rows of one key fall into the same split, so that no text is trained on and
    judged.
    """
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
    return {name: np.concatenate(found).tolist() if found else [] for name, found in parts.items()}


def stratified(labels: Sequence[int], rows: int, seed: int) -> list[int]:
    """Indices of a shuffled subset with the classes' shares of the whole, every class at least once.

    Files are often sorted by star: the first N rows would be one class (the tutorial's fifth mistake).
    """
    if rows >= len(labels):
        rows = len(labels)
    every = np.asarray(labels, np.int64)
    order = np.argsort(every, kind="stable")
    found, starts = np.unique(every[order], return_index=True)
    members = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(every) else {}
    # Classes in the order met, which settles ties of the remainders.
    by_class = dict(sorted(members.items(), key=lambda item: int(item[1][0])))
    generator = random.Random(seed)
    # Largest remainder: shares add up to exactly `rows`.
    shares = {label: rows * len(members) / len(labels) for label, members in by_class.items()}
    counts = {label: max(1, int(share)) for label, share in shares.items()}
    for label in sorted(shares, key=lambda item: shares[item] - int(shares[item]), reverse=True):
        if sum(counts.values()) < rows and counts[label] < len(by_class[label]):
            counts[label] += 1
    chosen = [i for label in sorted(by_class) for i in _drawn(by_class[label], counts[label], generator)]
    generator.shuffle(chosen)
    return chosen


def _drawn(members: NDArray[np.int64], count: int, generator: random.Random) -> list[int]:
    found: list[int] = members[generator.sample(range(len(members)), count)].tolist()
    return found
