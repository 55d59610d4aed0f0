"""What makes a run's result doubtful, in sentences: a loss that does not move, labels that are missing, an adapter that
is no better than a guess. Pure; what to do with the sentences is the run's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from ...core.names import BASELINES
from ...core.run_report import Metrics
from ..data.dataset import DataSet

FEWEST = 12  # logged losses before anything is said of them
SURE = 3.0  # standard errors: one false alarm in some seven hundred runs


def check_data(data: DataSet) -> list[str]:
    """Labels that a split lacks: one that is never trained on cannot be learnt, one that is never judged says
    nothing.
    """
    found = []
    for split, reviews in data.splits.items():
        absent = [label for i, label in enumerate(data.labels) if i not in set(reviews.labels)]
        if absent and reviews.labels:
            why = "it cannot be learnt" if split == "train" else f"the {split} metrics say nothing about it"
            found.append(f"No {split} review has the label {', '.join(absent)}; {why}.")
    return found


def check_losses(losses: Sequence[float], learning_rate: float) -> str | None:
    """A sentence where the training loss has not fallen; None where it has, or where it is too early to say.

    It has where the last third of the logged losses lies below the first by more than chance (Welch's standard error of
    two means)."""
    if len(losses) < FEWEST:
        return None
    third = len(losses) // 3
    first, last = losses[:third], losses[-third:]
    was, now, error = fmean(first), fmean(last), math.sqrt(variance(first) / third + variance(last) / third)
    if was - now > SURE * error:
        return None
    return (
        f"The training loss has not fallen: it was {was:.3f} and is {now:.3f}; "
        f"try another learning rate (it is {learning_rate:g}), and look whether texts and labels belong together."
    )


def check_result(test: Metrics, baselines: Mapping[str, Metrics]) -> list[str]:
    """Where the adapter is no better on the test reviews than what needs no network."""
    found = []
    for name, other in baselines.items():
        if test.accuracy <= other.accuracy:
            found.append(
                f"The adapter is no better than the baseline {BASELINES.get(name, name)!r}: test accuracy"
                f" {test.accuracy:.3f}, the baseline's {other.accuracy:.3f}."
            )
    return found
