"""Predictions as HTML: the stars, the bars, how sure; two precisions side by side; what a lesson changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from ...core.format import number, percent
from ...core.names import PRECISIONS
from ...core.records import PrecisionComparison, Prediction
from ..templating import render

if TYPE_CHECKING:
    from ...engine.classify.teaching import Taught

DEFAULT_LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")  # before the first answer
CERTAINTY = ((0.9, "Very sure"), (0.6, "Fairly sure"), (0.4, "Unsure"), (0.0, "Guessing"))  # from a probability on


def view_stars(prediction: Prediction | None) -> str:
    """The expected stars, one number and nothing else; of labels that are not ordinal the label."""
    if prediction is None:
        return "–"
    stars = prediction.expected_stars
    return escape(prediction.label) if stars is None else number(stars, ".1f")


def view_probabilities(tuned: Prediction | None = None, base: Prediction | None = None) -> str:
    """Bars from the most to the fewest stars: the tuned network's beside the untrained head's."""
    rows = [
        (label, *(made.probabilities[label] if made else None for made in (tuned, base)))
        for label in reversed(tuple(tuned.probabilities) if tuned else DEFAULT_LABELS)
    ]
    return render("classify/probabilities.html.jinja", rows=rows)


def view_certainty(tuned: Prediction, seconds: float) -> str:
    """How sure, in words and with the number behind them. `seconds`: how long the answer took."""
    share = max(tuned.probabilities.values())
    words = next(words for least, words in CERTAINTY if share >= least)
    return render("classify/certainty.html.jinja", prediction=tuned, words=words, share=share, seconds=seconds)


def view_temperature(temperature: float) -> str:
    """What calibrated probabilities are; plain text."""
    return (
        f"The tuned network's logits divided by {temperature:.2f}, as fitted on the run's validation reviews: the most"
        f" likely label stays, the probabilities become {'softer' if temperature > 1 else 'sharper'}, and the expected"
        " stars change with them."
    )


def view_base_check(difference: float) -> str:
    """Whether the second column is the base. `difference`: the largest one of a logit."""
    return render("classify/base_check.html.jinja", difference=difference)


def view_comparison(compared: PrecisionComparison) -> str:
    """Two precisions of one adapter: how often they agree, and what each costs."""
    restored = any(side.restored for side in compared.sides)
    return render("classify/comparison.html.jinja", compared=compared, precisions=PRECISIONS, restored=restored)


def view_lesson(taught: Taught, ordinal: bool) -> str:
    """What a few more steps on one review changed: for it, and for reviews that were not taught."""
    before, after = taught.held_out_before, taught.held_out_after
    rows = [
        (f"Probability of {taught.label}", percent(taught.before[taught.label]), percent(taught.after[taught.label]))
    ]
    if ordinal:
        rows.append(("Expected stars of this review", _expected(taught.before), _expected(taught.after)))
    if before.accuracy is not None:
        rows.append((f"Accuracy on {before.rows} held-out reviews", percent(before.accuracy), percent(after.accuracy)))
        rows.append(("Mean error on them (stars)", number(before.mae_stars, ".2f"), number(after.mae_stars, ".2f")))
    else:
        rows.append((f"Of {before.rows} other reviews, the same label as before", "–", percent(after.kept)))
    return render("classify/lesson.html.jinja", taught=taught, rows=rows)


def view_correction(count: int, link: str) -> str:
    """That a correction is kept. `link`: where all `count` can be downloaded, "" for nowhere."""
    return render("classify/correction.html.jinja", count=count, link=link)


def _expected(shares: Mapping[str, float]) -> str:
    return number(sum(rank * share for rank, share in enumerate(shares.values(), start=1)), ".1f")
