"""Predictions as HTML: the stars, the bars, how sure; two precisions beside each other; what a lesson did. Pure; every
text is escaped.

Knows no handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ...core.format import percent, shorten, size
from ...core.names import PRECISIONS
from ...core.records import Prediction


def view_stars(prediction: Prediction | None) -> str:
    """The expected stars, one number and nothing else."""
    if prediction is None:
        return "–"
    return f"{prediction.expected_stars:.1f}" if prediction.expected_stars is not None else escape(prediction.label)


def view_probabilities(tuned: Prediction | None, base: Prediction | None) -> str:
    """Bars from the most to the fewest stars: the tuned network's beside the untrained head's."""
    labels = list(
        reversed(tuned.probabilities if tuned else [f"{star} star{'s' * (star > 1)}" for star in range(1, 6)])
    )
    rows = ""
    for label in labels:
        ours, theirs = (made.probabilities[label] if made else 0.0 for made in (tuned, base))
        rows += (
            f'<div class="share"><span>{escape(label)}</span><div class="bars"><i class="tuned"'
            f' style="width:{100 * ours:.1f}%"></i>'
            f'<i class="base" style="width:{100 * theirs:.1f}%"></i></div>'
            "<span"
            f" class='number'>{percent(ours) if tuned else '–'}<small>{percent(theirs) if base else '–'}</small></span></div>"  # noqa: E501
        )
    legend = (
        '<p class="legend"><span><i class="tuned"></i>tuned</span><span><i class="base"></i>untrained head (before step'
        " 1)</span></p>"
    )
    return f'<div class="shares">{rows}</div>{legend}'


def view_certainty(tuned: Prediction, seconds: float) -> str:
    """How sure, in words and with the number behind them."""
    share = max(tuned.probabilities.values())
    words = "Very sure" if share >= 0.9 else "Fairly sure" if share >= 0.6 else "Unsure" if share >= 0.4 else "Guessing"
    cut = " The end of the review was cut off: it is longer than the adapter reads." if tuned.truncated else ""
    when = f"Answered in {1000 * seconds:.0f} ms" if seconds > 0.0005 else "Answered at once, as before"
    return f'<p class="quiet">{words}: {percent(share)} on {escape(tuned.label)}. {when}.{cut}</p>'


def view_remark(remark: str) -> str:
    """What one should know of an adapter that this app has not made."""
    return f'<p class="quiet">{escape(remark)}</p>'


def view_temperature(temperature: float) -> str:
    """What calibrated probabilities are; plain text."""
    how = "softer" if temperature > 1 else "sharper"
    return (
        f"The tuned network's logits divided by {temperature:.2f}, as fitted on the run's validation reviews: the"
        f" likeliest star stays, the shares become {how} and the expected stars follow them."
    )


def view_base_check(difference: float) -> str:
    """Whether the base column is the base, with the number."""
    words = "It is the base" if difference < 1e-4 else "It differs from the base"
    return (
        f'<p class="quiet"><strong>{words}.</strong> The base was loaded anew, without the adapter and with the head as'
        " it stood before step 1; for this review its logits differ from those of the second column by at most"
        f" {difference:.2g}.</p>"
    )


def view_comparison(found: Mapping[str, Any]) -> str:
    """Two precisions of one adapter (engine.inference.compare): how often they agree, and what each costs."""
    if not found["rows"]:
        return '<p class="quiet">Stopped before the first reviews.</p>'
    rows = "".join(
        f"<tr><th scope='row'>{escape(PRECISIONS.get(side['precision'], side['precision']))}</th><td"
        f" class='number'>{size(side['weights_bytes'])}</td><td class='number'>{1000 * side['seconds']:.1f}"
        " ms</td></tr>"
        for side in found["sides"]
    )
    restored = (
        " For typed reviews the quantized matrices are restored once, to the very values that training multiplied with;"
        " the memory is that of the model before."
        if any(side["restored"] for side in found["sides"])
        else ""
    )
    return (
        f"<p><strong>{percent(found['same_label'])} the same label</strong> on {found['rows']:,} of the sample's test"
        " reviews; a "
        f"probability differs by at most {100 * found['largest_difference']:.1f} points.</p>"
        '<div class="scroll"><table class="plain"><thead><tr><th scope="col">Base at</th>'
        '<th scope="col" class="number">bytes, measured</th>'
        f'<th scope="col" class="number">a review, in batches</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="quiet">On this CPU, one after the other.{restored}</p>'
    )


def view_lesson(taught: Any, ordinal: bool) -> str:
    """What twenty more steps did (an engine.teaching.Taught): to the review, and to reviews that it was not taught."""
    before, after = taught.held_out_before, taught.held_out_after
    rows = [
        (f"Probability of {taught.label}", percent(taught.before[taught.label]), percent(taught.after[taught.label]))
    ]
    if ordinal:
        rows.append(
            ("Expected stars of this review", f"{_expected(taught.before):.1f}", f"{_expected(taught.after):.1f}")
        )
    if before.accuracy is not None:
        rows.append((f"Accuracy on {before.rows} held-out reviews", percent(before.accuracy), percent(after.accuracy)))
        rows.append(("Stars off on them", f"{before.mae_stars:.2f}", f"{after.mae_stars:.2f}"))
    else:
        rows.append((f"Of {before.rows} other reviews, the same label as before", "–", percent(after.kept)))
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td class='number'>{old}</td><td class='number'>{new}</td></tr>"
        for name, old, new in rows
    )
    return (
        f"<p><strong>{taught.steps} steps in {taught.seconds:.0f} s.</strong> Taught: {escape(taught.label)} for "
        f'<q dir="auto">{escape(shorten(taught.text, 80))}</q></p>'
        '<div class="scroll"><table class="plain"><thead><tr><td></td><th scope="col" class="number">before</th>'
        f'<th scope="col" class="number">after</th></tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="quiet">The taught copy is chosen as the adapter now; it is forgotten when the app ends, and the'
        " adapter it came from "
        "is unchanged. The held-out reviews are the sample's test reviews.</p>"
    )


def _expected(shares: Mapping[str, float]) -> float:
    return sum(rank * share for rank, share in enumerate(shares.values(), start=1))
