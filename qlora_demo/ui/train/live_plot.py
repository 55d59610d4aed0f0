"""The one live figure: a gr.HTML that keeps a plotly.js graph alive in the browser and is fed with what is new.

The browser asks while its run is active, once a second where few do: zoom and hover survive, a reload asks for
everything again. What is known of a run is the timeline's; what is drawn is in live_figure.js, live_pinned.js and
live_plot.js."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DemoError
from ...core.format import duration
from ...host.redaction import without_paths
from ...jobs import queue
from ...services.app import Services
from ..queries import number_of, text_of
from .poll_interval import Pace
from .timeline import timeline_of

HERE = Path(__file__).parent
SCRIPTS = ("live_figure.js", "live_pinned.js", "live_plot.js")  # the last one uses the others
TEMPLATE = """
<div class="live">
  <div class="live-head"><span id="train-status" class="badge" data-state="">no run yet</span><span class="live-phase"></span></div>
  <p class="live-reading" aria-live="polite"></p>
  <div class="meter" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" aria-valuemax="100"><div></div></div>
  <dl class="facts">
    <div><dt>Step</dt><dd data-fact="step">–</dd></div>
    <div><dt>Time left</dt><dd data-fact="left">–</dd></div>
    <div><dt>Train loss</dt><dd data-fact="loss">–</dd></div>
    <div><dt>Validation accuracy</dt><dd data-fact="accuracy">–</dd></div>
    <div><dt>Reviews per second</dt><dd data-fact="rate">–</dd></div>
    <div><dt>Memory of the run</dt><dd data-fact="memory">–</dd></div>
    <div hidden><dt>GPU in use</dt><dd data-fact="gpu-use">–</dd></div>
    <div hidden><dt>GPU memory, all users</dt><dd data-fact="gpu-memory">–</dd></div>
    <div hidden><dt>GPU temperature</dt><dd data-fact="gpu-heat">–</dd></div>
    <div hidden><dt>GPU power</dt><dd data-fact="gpu-power">–</dd></div>
  </dl>
  <div class="live-controls" role="group" aria-label="How the curves are drawn">
    <label>Smoothing <input type="range" min="0" max="10" step="0.5" value="2" data-choice="smoothing"></label>
    <label><input type="checkbox" data-choice="log"> Loss on a log scale</label>
    <label><input type="checkbox" data-choice="more"> More curves</label>
    <label><input type="checkbox" data-choice="sound"> Sound when it ends</label>
  </div>
  <p class="legend live-legend">
    <span><i class="live-train"></i>train loss</span><span><i class="live-smoothed"></i>smoothed</span>
    <span><i class="live-validation"></i>validation</span><span><i class="live-level"></i>without a network</span>
  </p>
  <div id="train-figure" role="img" aria-label="Loss and accuracy over the steps"><div class="graph"></div></div>
  <div id="train-pinned-figure" hidden></div>
  <ul class="notices" aria-live="polite"></ul>
</div>
"""  # noqa: E501


def live_plot(services: Services) -> gr.HTML:
    """The figure; its value is the run's id. It triggers `settled` when the run it shows has ended."""

    pace = Pace()

    def since(query: Any) -> dict[str, Any]:
        """What is new of a run since event number `after`, and in how many seconds to ask `again`."""
        told = news(services, query)
        again = 0.0 if told.get("more") else round(pace.next_turn(time.monotonic()), 2)
        return {**told, "again": again}

    return gr.HTML(
        value="",
        html_template=TEMPLATE,
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        head='<script src="plotly/plotly.min.js"></script>',
        server_functions=[since],
        apply_default_css=False,
        elem_id="train-live",
    )


def news(services: Services, query: Any) -> dict[str, Any]:
    """The answer to one poll: the run's state, and what its timeline has told since event `after`, below 50 kB.

    The query comes from anyone's browser: what is not a run's id and a whole number is answered as an unknown run. On a
    public host the pinned reviews are told to who has the run's `key`; a page that hears of its key later is told
    everything anew."""
    asked = query if isinstance(query, dict) else {}
    run, after, born, key = asked.get("run"), number_of(asked, "after"), asked.get("born", ""), text_of(asked, "key")
    if not isinstance(run, str) or not isinstance(born, str) or after is None:
        return {"error": "This is not a run."}
    try:
        job = services.train.job(run)
        # Before the events: what is written before a final state is then in this answer or the next of the same
        # timeline.
        state = job.state()
        own = services.host.may_see(run, key)
        mark = "own" if own else "other"
        same = born.removeprefix(f"{mark} ") if born.startswith(f"{mark} ") else born and "of others"
        told = timeline_of(job.folder).news(state.created, after, same, pinned=own)
        words = {name: told[name] for name in ("phase", "notices", "reading")} | {"problem": state.error}
        told |= {"born": f"{mark} {told['born']}", **services.host.redact(job, key, words)}
        waits = state.state == "queued"
        wait = queue.expected_wait(services.store, job) if waits else None
        position = queue.position(services.store, job) if waits else None
    except DemoError as error:
        return {"error": without_paths(str(error))}
    left = told.pop("seconds_left")
    return {
        "run": run,
        "state": state.state,
        "final": state.is_final,
        "steps_done": state.steps_done,
        "steps_total": state.steps_total,
        "position": position,
        "wait": None if wait is None else duration(wait),
        "left": duration(left) if left is not None and not state.is_final else None,
        **told,
    }
