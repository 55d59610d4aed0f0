"""How far a classifier's probabilities can be believed, as HTML and SVG. Pure: plain functions of a report's numbers.

Works in the style sheet's colours. Knows no handler and no run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core.format import number

Bins = Sequence[Mapping[str, Any]]
SIDE, LEFT, TOP = 240.0, 44.0, 8.0  # pixels: the plot's square, and what lies left of it and above
SMALLEST, LARGEST = 2.5, 7.0  # radius of a point without reviews, and with all of them


def view_reliability(test: Mapping[str, Any], scaled: Mapping[str, Any] | None) -> str:
    """The reliability curve, a sentence on what it means, and what the temperature changes; "" for reports of older
    runs.

    `test`: Metrics as a report has them; `scaled`: the report's "calibration".
    """
    measured = test.get("calibration") or {}
    if not measured:
        return ""
    before: Bins = measured["bins"]
    after: Bins = scaled["bins_after"] if scaled else ()
    legend = '<span><i class="judged-before"></i>as it answers</span>'
    legend += '<span><i class="judged-after"></i>with the temperature</span>' if scaled else ""
    return (
        '<h3>How far it can be believed</h3><div class="judged-belief">'
        f'<figure>{_curve(before, after, test["rows"])}<p class="legend">{legend}<span>larger: more'
        " reviews</span></p></figure>"
        f"<div><p><strong>{say(before, test['rows'])}</strong></p>"
        f"<p>Expected calibration error: <strong>{number(measured['ece'])}</strong>, the mean distance between how sure"
        " it is and how "
        f"often it is right, on {test['rows']:,} test reviews.</p>{_offer(scaled)}</div></div>{_table(before, after)}"
    )


def say(bins: Bins, rows: int) -> str:
    """What the bin with the most reviews means, in words; a distance of two standard errors is left to chance."""
    fullest = max(bins, key=lambda one: one["rows"])
    said, right, count = fullest["confidence"], fullest["accuracy"], fullest["rows"]
    if abs(said - right) <= 2 * math.sqrt(said * (1 - said) / count):
        verdict = "as it says, within what chance does"
    else:
        verdict = "it is too sure of itself" if said > right else "it is right more often than it says"
    return (
        f"When it says {_share(said)} (in {count:,} of {rows:,} reviews), it is right {_share(right)} of the time:"
        f" {verdict}."
    )


def _offer(scaled: Mapping[str, Any] | None) -> str:
    """The temperature, and what it did to reviews that it was not fitted on."""
    if not scaled:
        return ""
    better = scaled["ece_after"] < scaled["ece_before"]
    return (
        f"<p>With its logits divided by the temperature {scaled['temperature']:.2f}, which was fitted on the"
        f" {escape(scaled['split'])} reviews, the error is <strong>{number(scaled['ece_after'])}</strong>, and the loss"
        f" {number(scaled['loss_after'])} instead of {number(scaled['loss_before'])}. The likeliest label stays the"
        " same. "
        + ("The Classify tab offers it as “Calibrated probabilities”.</p>" if better else "Here it does not help.</p>")
    )


def _curve(before: Bins, after: Bins, rows: int) -> str:
    """Accuracy over confidence, the diagonal being full honesty."""
    ticks = "".join(
        f'<line class="judged-grid" x1="{_x(t)}" y1="{_y(0)}" x2="{_x(t)}" y2="{_y(1)}"/>'
        f'<line class="judged-grid" x1="{_x(0)}" y1="{_y(t)}" x2="{_x(1)}" y2="{_y(t)}"/>'
        f'<text x="{_x(t)}" y="{TOP + SIDE + 14:.0f}">{_share(t)}</text>'
        f'<text class="end" x="{LEFT - 6:.0f}" y="{TOP + SIDE * (1 - t) + 4:.0f}">{_share(t)}</text>'
        for t in (0, 0.25, 0.5, 0.75, 1)
    )
    words = (
        f'<text x="{LEFT + SIDE / 2:.0f}" y="{TOP + SIDE + 30:.0f}">how sure it is</text>'
        f'<text transform="translate(8 {TOP + SIDE / 2:.0f}) rotate(-90)">how often it is right</text>'
    )
    honest = f'<line class="judged-honest" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    box = f"0 0 {LEFT + SIDE + 22:.0f} {TOP + SIDE + 36:.0f}"
    return (
        f'<svg class="judged-curve" viewBox="{box}" role="img" aria-label="Reliability curve; its numbers are in the'
        ' table below">'
        f"{ticks}{words}{honest}{_points(after, rows, 'after')}{_points(before, rows, 'before')}</svg>"
    )


def _points(bins: Bins, rows: int, kind: str) -> str:
    """Circles of an area that grows with their reviews, joined by a line."""
    if not bins:
        return ""
    line = " ".join(f"{_x(one['confidence'])},{_y(one['accuracy'])}" for one in bins)
    circles = "".join(
        f'<circle cx="{_x(one["confidence"])}" cy="{_y(one["accuracy"])}" '
        f'r="{SMALLEST + (LARGEST - SMALLEST) * math.sqrt(one["rows"] / rows):.1f}"/>'
        for one in bins
    )
    return f'<g class="judged-{kind}"><polyline points="{line}"/>{circles}</g>'


def _table(before: Bins, after: Bins) -> str:
    """The curve in numbers: of the reviews on which it was so sure, how many there are and how often it was right."""
    kinds = [("as it answers", before), *([("with the temperature", after)] if after else [])]
    by_edge = [{one["lower"]: one for one in bins} for _, bins in kinds]
    edges = sorted({(one["lower"], one["upper"]) for _, bins in kinds for one in bins})

    def cells(one: Mapping[str, Any] | None) -> str:
        rows, right = (f"{one['rows']:,}", _share(one["accuracy"])) if one else ("–", "–")
        return f"<td class='number'>{rows}</td><td class='number'>{right}</td>"

    heads = "".join(
        f"<th scope='col' class='number'>Reviews<small>{kind}</small></th><th scope='col'"
        f" class='number'>Right<small>{kind}</small></th>"
        for kind, _ in kinds
    )
    body = "".join(
        "<tr><th"
        f" scope='row'>{100 * lower:.0f}–{_share(upper)}</th>{''.join(cells(found.get(lower)) for found in by_edge)}</tr>"  # noqa: E501
        for lower, upper in edges
    )
    return (
        "<details class='judged-numbers'><summary>The curve in numbers</summary><table class='plain"
        " judged-table'><thead><tr><th scope='col'>How"
        f" sure</th>{heads}</tr></thead><tbody>{body}</tbody></table></details>"
    )


def _x(share: float) -> str:
    return f"{LEFT + SIDE * share:.1f}"


def _y(share: float) -> str:
    return f"{TOP + SIDE * (1 - share):.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
