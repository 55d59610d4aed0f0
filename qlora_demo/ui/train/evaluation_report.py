"""How good a run is in detail: its confusion matrix, whose cells list their reviews, its worst mistakes, and its
calibration.

A gr.HTML whose value is a run's id. The browser asks for an overview, and for reviews a page at a time; listing them is
in evaluation_report.js. What the browser sends comes from anyone, and reviews are handed over as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import gradio as gr

from ...core.errors import DemoError, ReportError
from ...core.format import cut
from ...core.records import Answer
from ...core.run_report import RunReport
from ...host.redaction import without_paths
from ...jobs.store import Job
from ...services.app import Services
from ..queries import number_of, text_of
from ..templating import render
from ..views import MOST_LABELS, view_confusion, view_quiet
from .evaluation_views import view_reliability

HERE = Path(__file__).parent
SPLITS = ("test", "validation")
PAGE, LONGEST = 10, 1_000  # reviews in one answer, characters of each: under 50 kB
WORST = 20
TOO_MANY = f"More than {MOST_LABELS} labels: too many for a readable matrix."


class Refusal(TypedDict):
    """Why there is no answer, in a sentence."""

    error: str


class Overview(TypedDict):
    """What `find_overview` answers."""

    labels: list[str]
    ordinal: bool
    splits: dict[str, str]
    listed: bool
    reliability: str


class Review(TypedDict):
    """A review as it is listed: its text cut, labels as indices, the probability of each."""

    text: str
    label: int
    guess: int
    probabilities: list[float]


class ReviewsPage(TypedDict):
    """How many reviews there are, and a page of them."""

    total: int
    reviews: list[Review]


def evaluation_report(services: Services) -> gr.HTML:
    """The component; its value is a run's id, "" shows nothing."""

    def overview(query: Any) -> Overview | Refusal:
        """A run's confusion matrices and its reliability curve."""
        return find_overview(services, query)

    def reviews(query: Any) -> ReviewsPage | Refusal:
        """Reviews of one cell of a matrix, or the worst mistakes."""
        return find_reviews(services, query)

    return gr.HTML(
        value="",
        html_template=render("train/evaluation.html.jinja"),
        js_on_load=(HERE / "evaluation_report.js").read_text(encoding="utf-8"),
        server_functions=[overview, reviews],
        apply_default_css=False,
        elem_id="train-judgement",
    )


def find_overview(services: Services, query: Any) -> Overview | Refusal:
    """The answer to {run, key}: labels, confusion by split as HTML, whether there are reviews to list, the reliability
    curve as HTML.

    A run without a report has no splits. On a public host the reviews of an upload are listed to who has the run's key
    alone."""
    try:
        job = services.train.job(text_of(query, "run"))
        report = report_of(job)
        is_listed = services.host.may_read(job.id, text_of(query, "key")) and (job.folder / "answers.jsonl").is_file()
    except DemoError as error:
        return {"error": without_paths(str(error))}
    splits = {name: report.final[name] for name in SPLITS if name in report.final} if report else {}
    splits = {name: metrics for name, metrics in splits.items() if metrics.confusion}
    ordinal = report is not None and report.data.ordinal
    return {
        "labels": next((list(metrics.labels) for metrics in splits.values()), []),
        "ordinal": ordinal,
        "splits": {
            name: view_confusion(metrics.labels, metrics.confusion, ordinal, is_listed) or view_quiet(TOO_MANY)
            for name, metrics in splits.items()
        },
        "listed": is_listed,
        "reliability": view_reliability(splits["test"], report.calibration) if report and "test" in splits else "",
    }


def find_reviews(services: Services, query: Any) -> ReviewsPage | Refusal:
    """The answer to {run, key, split, after} with {label, guess}, or without them for the worst mistakes: how many, and
    one page of them.

    The most confident come first; of the worst mistakes those that are off by the most stars. Labels are indices.
    """
    split, after = text_of(query, "split"), number_of(query, "after")
    cell = number_of(query, "label"), number_of(query, "guess")
    if split not in SPLITS or after is None or (None in cell and cell != (None, None)):
        return {"error": "These are no reviews of a run."}
    try:
        job = services.train.job(text_of(query, "run"))
        if not services.host.may_read(job.id, text_of(query, "key")):
            return {"error": "These reviews come from an uploaded file; only who started the run may read them."}
        answers = [answer for answer in job.answers() if answer["split"] == split]
        report = report_of(job)
    except DemoError as error:
        return {"error": without_paths(str(error))}
    ordinal = report is not None and report.data.ordinal

    def badness(answer: Answer) -> tuple[int, float]:
        off = abs(answer["guess"] - answer["label"]) if ordinal else 0
        return -off, -answer["probabilities"][answer["guess"]]

    if cell == (None, None):
        mistakes = (answer for answer in answers if answer["guess"] != answer["label"])
        reviews = sorted(mistakes, key=badness)[:WORST]
    else:
        reviews = sorted((answer for answer in answers if (answer["label"], answer["guess"]) == cell), key=badness)
    return {"total": len(reviews), "reviews": [_shortened(review) for review in reviews[after : after + PAGE]]}


def report_of(job: Job) -> RunReport | None:
    """The run's report; None where there is none, or none that this version reads."""
    try:
        return job.report(RunReport)
    except ReportError:
        return None


def _shortened(answer: Answer) -> Review:
    probabilities = [round(share, 3) for share in answer["probabilities"]]
    return {
        "text": cut(answer["text"], LONGEST),
        "label": answer["label"],
        "guess": answer["guess"],
        "probabilities": probabilities,
    }
