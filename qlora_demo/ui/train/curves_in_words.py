"""The curves of a run in plain words: what they say so far, and what to try. Pure.

Losses are nats. The loss of a step is a mean over few reviews, so it is noisy: only means of many are compared, by
their standard errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

Step = tuple[int, float]  # (step, train loss)
Evaluation = tuple[int, float, float | None]  # (step, validation loss, accuracy)

FEW = 5  # steps: fewer have no measurable scatter
# standard errors: the curves are read after every step, and three are exceeded by chance once in a few hundred times
SURE = 4
VISIBLE = 0.02  # nats: the right label 2 % likelier; less is not worth a word, however sure
LESS = 0.1  # nats below chance: the right label a tenth likelier than by guessing
STEADY = 0.01  # nats: validation losses are taken to be uncertain by that much, where there are too few to measure it
SIX_DIFFERENCES = 1.4826 / math.sqrt(6)  # median of |a - 2 b + c| to the scatter of a, b and c


def read_curves(
    steps: Sequence[Step],
    evaluations: Sequence[Evaluation],
    *,
    labels: int,
    word_counts: float | None = None,
    steps_total: int | None = None,
    ended: bool = False,
) -> str:
    """One or two sentences, "" before the first step. `word_counts`: the accuracy of TF-IDF with logistic
    regression.
    """
    if not steps:
        return ""
    if len(steps) < FEW:
        return "Too early to tell."
    chance = math.log(labels)
    judged = [evaluation for evaluation in evaluations if evaluation[0] > 0]
    trend = (
        _unstable(steps, chance)
        or _overfitting(steps, judged)
        or _guessing(steps, judged, chance, steps_total, ended)
        or _levelled(evaluations, steps[-1][0])
        or _learning(steps, evaluations, ended)
        or "No clear trend yet."
    )
    return " ".join(filter(None, [trend, _against_word_counts(judged, word_counts, ended)]))


def _unstable(steps: Sequence[Step], chance: float) -> str:
    """The steps are too wide: losses so high that the network is confidently wrong, or what was learned is lost."""
    losses = [loss for _, loss in steps]
    scatter = _scatter(losses)
    now, error = _mean(_recent(losses), scatter)
    # Guessing costs ln k; half as much again, as the mean of a batch and several times, is no bad luck with the
    # reviews.
    wild = sum(loss > 1.5 * chance for loss in losses[FEW:][-20:])
    width = max(FEW, len(losses) // 10)
    best, best_error = min(_mean(losses[at : at + width], scatter) for at in range(0, len(losses) - width + 1, width))
    lost = now - best > SURE * (error + best_error) + 5 * VISIBLE  # the best of ten windows is low by luck, too
    if now < chance - VISIBLE or not (wild >= 3 or lost):
        return ""
    words = f"the loss was {best:.2f} and is {now:.2f} now" if lost else f"losses far above chance ({chance:.3f})"
    return f"Unstable: {words}. Lower the learning rate."


def _overfitting(steps: Sequence[Step], evaluations: Sequence[Evaluation]) -> str:
    """The validation loss has been above its lowest for three evaluations or more, by more than its scatter."""
    losses = [loss for _, loss, _ in evaluations]
    if len(losses) < 4:
        return ""
    best = min(range(len(losses)), key=losses.__getitem__)
    since, later = evaluations[best][0], losses[best + 1 :]
    scatter = _scatter_around_trend(losses)
    # Twice the scatter is enough here: all three must lie above, and evaluations are few.
    if len(later) < 3 or min(later[-3:]) <= losses[best] or statistics.fmean(later[-3:]) - losses[best] < 2 * scatter:
        return ""
    risen = f"the validation loss has risen for {len(later)} evaluations"
    before = [loss for step, loss in steps if step <= since]
    after = [loss for step, loss in steps if step > since]
    if _fell(_recent(before), _recent(after), _scatter([loss for _, loss in steps])):
        return f"Overfitting since step {since}: the training loss falls, {risen}."
    return f"Past its best since step {since}: {risen}."


def _guessing(
    steps: Sequence[Step], evaluations: Sequence[Evaluation], chance: float, steps_total: int | None, ended: bool
) -> str:
    losses = [loss for _, loss in steps]
    scatter = _scatter(losses)
    now, error = _mean(_recent(losses), scatter)
    # Few losses of small batches cannot tell a good deal less than chance from chance: where it looks like less,
    # nothing is said.
    if now < chance - max(VISIBLE, min(SURE * error, LESS)) or (evaluations and evaluations[-1][1] < chance - LESS):
        return ""
    half = len(losses) // 2
    # A learning rate that still warms up moves nothing yet: a quarter of the run, and thirty losses, are long
    # enough.
    is_late = ended or (len(losses) >= 30 and steps[-1][0] >= 0.25 * (steps_total or 0))
    if is_late and not _fell(losses[:half], losses[half:], scatter):
        return (
            f"Not moving: after {steps[-1][0]} steps the loss is no better than chance ({chance:.3f}): raise the"
            " learning rate."
        )
    if now > chance + max(VISIBLE, SURE * error):
        return f"Still guessing: the loss ({now:.3f}) is not below that of chance ({chance:.3f})."
    return f"Still guessing: the loss is that of chance ({chance:.3f})."


def _levelled(evaluations: Sequence[Evaluation], step: int) -> str:
    """The last evaluations, over a quarter of the steps or more, differ by no more than their scatter."""
    losses = [loss for _, loss, _ in evaluations]
    if len(losses) < 4:
        return ""
    within = max(SURE * _scatter_around_trend(losses), VISIBLE)
    first, low, high = len(losses), math.inf, -math.inf
    for n in reversed(range(len(losses))):
        low, high = min(low, losses[n]), max(high, losses[n])
        if high - low > within:
            break
        first = n
    since = evaluations[first][0]
    if len(losses) - first < 3 or step - since < step / 4:
        return ""
    return f"Levelled off since step {since}: more steps bring little."


def _learning(steps: Sequence[Step], evaluations: Sequence[Evaluation], ended: bool) -> str:
    """Told by the validation loss where it was judged twice, since half-way or else since the first time."""
    if len(evaluations) >= 2:
        now = evaluations[-1]
        scatter = _scatter_around_trend([loss for _, loss, _ in evaluations])
        earlier = [one for one in evaluations[:-1] if one[0] <= now[0] / 2] or [evaluations[0]]
        for still, (step, loss, _) in ((True, earlier[-1]), (False, evaluations[0])):
            if loss - now[1] > max(SURE * scatter, VISIBLE):
                fell = f"the validation loss fell from {loss:.2f} to {now[1]:.2f} since step {step}"
                return (
                    f"Learned: {fell}{', and was still falling at the end' if still else ''}."
                    if ended
                    else f"Learning: {fell}."
                )
    losses = [loss for _, loss in steps]
    begin, now_recent = losses[: max(FEW, len(losses) // 4)], _recent(losses)
    if len(losses) >= 4 * FEW and _fell(begin, now_recent, _scatter(losses)):
        return (
            f"Learning: the training loss fell from {statistics.fmean(begin):.2f} to"
            f" {statistics.fmean(now_recent):.2f}."
        )
    return ""


def _against_word_counts(evaluations: Sequence[Evaluation], word_counts: float | None, ended: bool) -> str:
    """Better only where two evaluations in a row say so, or the last of an ended run."""
    known = [(step, accuracy) for step, _, accuracy in evaluations if accuracy is not None]
    if word_counts is None or not known:
        return ""
    first = len(known)
    while first and known[first - 1][1] > word_counts:
        first -= 1
    better = len(known) - first
    if better >= 2 or (better and ended):
        return f"Better than word counts (TF-IDF) since step {known[first][0]}."
    if better or (len(known) < 2 and not ended):
        return ""
    return f"{'Not' if ended else 'Not yet'} better than word counts (TF-IDF, {100 * word_counts:.1f} % right)."


def _recent(losses: Sequence[float]) -> Sequence[float]:
    """The last quarter, five losses at least."""
    return losses[-max(FEW, len(losses) // 4) :]


def _scatter(losses: Sequence[float]) -> float:
    """Of one loss, from the differences of neighbours: a trend must not count as scatter. Of all, since few tell it
    badly.
    """
    return math.sqrt(float(np.mean(np.square(np.diff(losses)))) / 2)


def _mean(losses: Sequence[float], scatter: float) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(np.mean(losses)), scatter / math.sqrt(len(losses))


def _fell(before: Sequence[float], after: Sequence[float], scatter: float) -> bool:
    if len(before) < FEW or len(after) < FEW:
        return False
    (was, was_error), (now, now_error) = _mean(before, scatter), _mean(after, scatter)
    return was - now > max(VISIBLE, SURE * math.hypot(was_error, now_error))


def _scatter_around_trend(losses: Sequence[float]) -> float:
    """Of validation losses, by how far each lies off the line between its neighbours; a curve that bends early counts
    little (median).
    """
    bends = [abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    return max(STEADY, SIX_DIFFERENCES * statistics.median(bends)) if len(bends) >= 5 else STEADY
