"""The one live figure: a gr.HTML that keeps a plotly.js graph alive in the browser and is fed with what is new.

The browser asks once a second while its run is active: zoom and hover survive, a reload asks for everything again.
Knows job folders through the services; what it draws is in live_plot.js.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import DemoError
from ..services import Services
from ..text import duration

HERE = Path(__file__).parent
BATCH = 500  # events in one answer: under 50 kB
TEMPLATE = """
<div class="live">
  <div class="live-head"><span id="train-status" class="badge" data-state="">no run yet</span><span class="live-phase"></span></div>
  <div class="meter" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" aria-valuemax="100"><div></div></div>
  <dl class="facts">
    <div><dt>Step</dt><dd data-fact="step">–</dd></div>
    <div><dt>Time left</dt><dd data-fact="left">–</dd></div>
    <div><dt>Train loss</dt><dd data-fact="loss">–</dd></div>
    <div><dt>Validation accuracy</dt><dd data-fact="accuracy">–</dd></div>
    <div><dt>Reviews per second</dt><dd data-fact="rate">–</dd></div>
    <div><dt>Memory of the run</dt><dd data-fact="memory">–</dd></div>
  </dl>
  <div id="train-figure" role="img" aria-label="Loss, accuracy and learning rate over the steps"><div class="graph"></div></div>
  <ul class="notices" aria-live="polite"></ul>
</div>
"""


def live_plot(services: Services) -> gr.HTML:
    """The figure; its value is the run's id. It triggers `settled` when the run it shows has ended."""

    def since(query: Any) -> dict[str, Any]:
        """What is new of a run since event number `after`."""
        return news(services, query)

    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load=(HERE / "live_plot.js").read_text(encoding="utf-8"),
        head='<script src="plotly/plotly.min.js"></script>',
        server_functions=[since],
        apply_default_css=False,
        elem_id="train-live",
    )


def news(services: Services, query: Any) -> dict[str, Any]:
    """The answer to one poll: state, and the points after event `after`, in plain arrays.

    The query comes from anyone's browser: what is not a run's id and a whole number is answered as an unknown run.
    """
    run, after = (query.get("run"), query.get("after")) if isinstance(query, dict) else (None, None)
    if not isinstance(run, str) or not isinstance(after, int) or isinstance(after, bool) or after < 0:
        return {"error": "This is not a run."}
    try:
        job = services.job(run)
        # Before the events: what is written before a final state is then in this batch.
        state = job.state()
        events = job.events(after, BATCH)
    except DemoError as error:
        return {"error": str(error)}
    last, more = events[-1]["seq"] if events else after, len(events) == BATCH
    # What was told of the steps after a resumed run's checkpoint comes again.
    resumed = [e["step"] for e in events if e["event"] == "resumed"]
    if resumed:
        events = [e for n, e in enumerate(events) if not _is_void(e, events[n + 1 :])]
    answer: dict[str, Any] = {
        "run": run,
        "after": last,
        "more": more,
        "state": state.state,
        "final": state.is_final,
        "problem": state.error,
        "steps_done": state.steps_done,
        "steps_total": state.steps_total,
        "position": services.store.position(job),
        "points": [[e["step"], e["loss"], e["learning_rate"]] for e in events if e["event"] == "step"],
        "evaluations": [[e["step"], e["loss"], e["accuracy"]] for e in events if e["event"] == "evaluation" and e["split"] == "validation"],
        "back_to": min(resumed, default=None),
        "notices": [e["message"] for e in events if e["event"] == "warning"],
    }
    steps = [e for e in events if e["event"] == "step"]
    phases = [e for e in events if e["event"] == "phase"]
    if steps:
        answer["rate"], answer["memory"] = steps[-1]["reviews_per_second"], steps[-1]["memory_bytes"]
    if phases:
        answer["phase"] = {name: phases[-1][name] for name in ("name", "detail", "progress")}
        left = phases[-1].get("seconds_left")
        answer["left"] = duration(left) if left is not None and not state.is_final else None
    labels = next((e["labels"] for e in phases if e.get("labels")), 5 if after == 0 else None)
    if labels:
        # Comes before any point: what guessing costs, in nats and in share of right answers.
        answer["chance"] = {"labels": labels, "loss": math.log(labels), "accuracy": 1 / labels}
    return answer


def _is_void(event: dict[str, Any], later: list[dict[str, Any]]) -> bool:
    """Whether a later event says that the run went back to before this step."""
    return event["event"] in ("step", "evaluation") and any(e["event"] == "resumed" and e["step"] < event["step"] for e in later)
