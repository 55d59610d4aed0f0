"""The one live figure: a gr.HTML that keeps a plotly.js graph alive in the browser and is fed with what is new.

The browser asks while its run is active, once a second where few do: zoom and hover survive, a reload asks for
everything again. What is known of a run is in run_events.py; what is drawn is in live_figure.js, live_pinned.js
and live_plot.js."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.format import duration
from ...host.redaction import without_paths
from ...jobs.store import Job
from ...services.app import Services
from ..queries import number_of, text_of
from ..templating import render
from .poll_interval import PollInterval
from .run_events import News, feed_of

HERE = Path(__file__).parent
SCRIPTS = ("live_figure.js", "live_pinned.js", "live_plot.js")  # the last one uses the others


def live_plot(services: Services) -> gr.HTML:
    """The figure; its value is the run's id. It triggers `settled` when the run it shows has ended."""

    interval = PollInterval()

    def since(query: Any) -> dict[str, object]:
        """What is new of a run since event number `after`, and in how many seconds to ask `again`."""
        answer = news(services, query)
        again = 0.0 if answer.get("more") else round(interval.next_seconds(time.monotonic()), 2)
        return {**answer, "again": again}

    return gr.HTML(
        value="",
        html_template=render("train/live.html.jinja"),
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        head='<script src="plotly/plotly.min.js"></script>',
        server_functions=[since],
        apply_default_css=False,
        elem_id="train-live",
    )


def news(services: Services, query: Any) -> dict[str, object]:
    """The answer to one poll: the run's state, and its events since number `after`, below 50 kB.

    The query comes from anyone's browser: what is not a run's id and a whole number is answered as an unknown run. On a
    public host the pinned reviews go to who has the run's `key`; a page that gets its key later is sent everything
    again."""
    run, key, born, after = *(text_of(query, name) for name in ("run", "key", "born")), number_of(query, "after")
    if after is None:
        return {"error": "This is not a run."}
    try:
        job = services.train.job(run)
        # Before the events: what is written before a final state is then in this answer or the next of the same feed.
        state = job.state()
        may_see = services.host.may_see(run, key)
        answer = _events_for(services, job, state.created, after, born, key, may_see)
        problem = services.host.redact(job, key, state.error)
        waits = state.state == "queued"
        wait = services.store.expected_wait(job) if waits else None
        position = services.store.position(job) if waits else None
    except DemoError as error:
        return {"error": without_paths(str(error))}
    left = answer["seconds_left"]
    shown = {name: value for name, value in answer.items() if name != "seconds_left"}
    return {
        "run": run,
        "state": state.state,
        "final": state.is_final,
        "steps_done": state.steps_done,
        "steps_total": state.steps_total,
        "position": position,
        "wait": None if wait is None else duration(wait),
        "left": duration(left) if left is not None and not state.is_final else None,
        **shown,
        "problem": problem,
    }


def _events_for(services: Services, job: Job, created: float, after: int, born: str, key: str, may_see: bool) -> News:
    """The feed's news, fit for who asks. A feed's mark says for whom it was: others' is another one."""
    mark = "own" if may_see else "other"
    same = born.removeprefix(f"{mark} ") if born.startswith(f"{mark} ") else born and "of others"
    answer = feed_of(job.folder).news(created, after, same, pinned=may_see)
    answer["born"] = f"{mark} {answer['born']}"
    answer["phase"] = services.host.redact(job, key, answer["phase"])
    answer["notices"] = services.host.redact(job, key, answer["notices"])
    answer["reading"] = services.host.redact(job, key, answer["reading"])
    return answer
