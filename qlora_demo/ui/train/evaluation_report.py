"""Where a run errs: its confusion matrix, whose cells list their reviews, its worst mistakes, and how far it can be
believed.

A gr.HTML whose value is a run's id. The browser asks for an overview, and for reviews a page at a time; drawing is in
evaluation_report.js. Knows job folders through the services. What the browser sends comes from anyone, and reviews are
handed over as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.format import cut
from ...host.redaction import without_paths
from ...services.app import Services
from ..queries import number_of, text_of
from .evaluation_views import view_reliability

HERE = Path(__file__).parent
SPLITS = ("test", "validation")
PAGE, LONGEST = 10, 1_000  # reviews in one answer, characters of each: under 50 kB
WORST = 20
MOST_LABELS = 30  # more make no matrix that one could read
TEMPLATE = """
<div class="judged" hidden>
  <div class="judged-head"><h3>Where it errs</h3><label>Judged on <select class="judged-split"></select></label></div>
  <div id="train-confusion"></div>
  <div id="train-cell"></div>
  <h3>The worst mistakes</h3>
  <div id="train-mistakes"></div>
  <div id="train-reliability"></div>
</div>
"""


def judgement(services: Services) -> gr.HTML:
    """The component; its value is a run's id, "" shows nothing."""

    def overview(query: Any) -> dict[str, Any]:
        """A run's confusion matrices and its reliability curve."""
        return look(services, query)

    def reviews(query: Any) -> dict[str, Any]:
        """Reviews of one cell of a matrix, or the worst mistakes."""
        return find(services, query)

    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=(HERE / "evaluation_report.js").read_text(encoding="utf-8"),
        server_functions=[overview, reviews],
        apply_default_css=False,
        elem_id="train-judgement",
    )


def look(services: Services, query: Any) -> dict[str, Any]:
    """The answer to {run, key}: labels, confusion by split, whether there are reviews to list, the reliability curve as
    HTML.

    A run without a report has no splits. On a public host the reviews of an upload are listed to who has the run's key
    alone."""
    try:
        job = services.train.job(text_of(query, "run"))
        report = job.report() or {}
        may_read = services.host.may_read(job.id, text_of(query, "key"))
    except DemoError as error:
        return {"error": without_paths(str(error))}
    judged = _judged(report)
    labels = next((list(metrics["labels"]) for metrics in judged.values()), [])
    return {
        "labels": labels,
        "ordinal": bool((report.get("data") or {}).get("ordinal")),
        "splits": {
            split: metrics["confusion"] if len(labels) <= MOST_LABELS else [] for split, metrics in judged.items()
        },
        "listed": may_read and (job.folder / "answers.jsonl").is_file(),
        "reliability": view_reliability(judged["test"], report.get("calibration")) if "test" in judged else "",
    }


def find(services: Services, query: Any) -> dict[str, Any]:
    """The answer to {run, key, split, after} with {label, guess}, or without them for the worst mistakes: how many, and
    one page of them.

    The surest come first; of the worst mistakes those that are off by the most stars. Labels are indices.
    """
    split, after, cell = (
        text_of(query, "split"),
        number_of(query, "after"),
        (number_of(query, "label"), number_of(query, "guess")),
    )
    if split not in SPLITS or after is None or (None in cell and cell != (None, None)):
        return {"error": "These are no reviews of a run."}
    try:
        job = services.train.job(text_of(query, "run"))
        if not services.host.may_read(job.id, text_of(query, "key")):
            return {"error": "These reviews are those of an uploaded file, and shown to who started the run alone."}
        answers = [answer for answer in job.answers() if answer["split"] == split]
        ordinal = bool(((job.report() or {}).get("data") or {}).get("ordinal"))
    except DemoError as error:
        return {"error": without_paths(str(error))}

    def badness(answer: dict[str, Any]) -> tuple[int, float]:
        off = abs(answer["guess"] - answer["label"]) if ordinal else 0
        return -off, -answer["probabilities"][answer["guess"]]

    if cell == (None, None):
        found = sorted((answer for answer in answers if answer["guess"] != answer["label"]), key=badness)[:WORST]
    else:
        found = sorted((answer for answer in answers if (answer["label"], answer["guess"]) == cell), key=badness)
    return {"total": len(found), "reviews": [_shortened(answer) for answer in found[after : after + PAGE]]}


def _judged(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The report's metrics by split, of those that have a confusion matrix."""
    final = report.get("final") or {}
    return {split: final[split] for split in SPLITS if (final.get(split) or {}).get("confusion")}


def _shortened(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": cut(answer["text"], LONGEST),
        "label": answer["label"],
        "guess": answer["guess"],
        "probabilities": [round(share, 3) for share in answer["probabilities"]],
    }
