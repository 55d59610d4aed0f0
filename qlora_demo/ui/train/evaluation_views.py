"""How far a classifier's probabilities can be trusted, as HTML and SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...core.format import share
from ...core.run_report import Calibration, Metrics, ReliabilityBin
from ..templating import render

Bins = Sequence[ReliabilityBin]


def view_reliability(test: Metrics, calibration: Calibration | None) -> str:
    """The reliability curve, a sentence on what it means, and what the temperature changes; "" for reports of older
    runs.
    """
    if test.calibration is None:
        return ""
    before, after = test.calibration.bins, calibration.bins_after if calibration else ()
    by_edge = [{bin.lower: bin for bin in bins} for bins in (before, after) if bins]
    edges = sorted({(bin.lower, bin.upper) for bins in (before, after) for bin in bins})
    return render(
        "train/reliability.html.jinja",
        before=before,
        after=after,
        rows=test.rows,
        verdict=describe_fullest(before, test.rows),
        ece=test.calibration.ece,
        calibration=calibration,
        kinds=("as trained", "with the temperature")[: len(by_edge)],
        table=[(lower, upper, [bins.get(lower) for bins in by_edge]) for lower, upper in edges],
    )


def describe_fullest(bins: Bins, rows: int) -> str:
    """What the bin with the most reviews means, in words; a distance of two standard errors is left to chance."""
    fullest = max(bins, key=lambda bin: bin.rows)
    confidence, accuracy = fullest.confidence, fullest.accuracy
    if abs(confidence - accuracy) <= 2 * math.sqrt(confidence * (1 - confidence) / fullest.rows):
        verdict = "well calibrated, within chance"
    else:
        verdict = "it is overconfident" if confidence > accuracy else "it is underconfident"
    return (
        f"When its confidence is about {share(confidence)} (in {fullest.rows:,} of {rows:,} reviews), it is right"
        f" {share(accuracy)} of the time: {verdict}."
    )
