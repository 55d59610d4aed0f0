"""Runs side by side as HTML: a table, and accuracy over time as a picture. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ...core.config import RunConfig
from ...core.format import duration
from ...services.compare import COMPARED, Compared
from ..templating import render
from ..views import view_quiet

LEFT, RIGHT, TOP, BOTTOM = 52.0, 540.0, 16.0, 190.0  # pixels: the edges of the plot in a picture of 560 x 230
TICKS_SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 108_000)
TITLES = ("Test accuracy", "Mean error (stars)", "Trained in", "Peak memory")


def view_compared(runs: Sequence[Compared], shown: str) -> str:
    """Table and picture; `shown`: the run that the page shows, and that the others are compared with."""
    if not runs:
        return view_quiet("No run has a result yet.")
    test = next((run.test for run in runs if run.run == shown), runs[0].test)
    alike = [(number, run) for number, run in enumerate(runs, start=1) if run.test == test]
    with_energy = any(run.joules for run in runs)
    return render(
        "train/compared.html.jinja",
        picture=_picture(alike, shown) if len(alike) > 1 else "",
        titles=(*TITLES, "Energy") if with_energy else TITLES,
        fields=RunConfig.model_fields,
        runs=runs,
        shown=shown,
        test=test,
        with_energy=with_energy,
        is_cut=len(runs) == COMPARED,
    )


def _picture(runs: Sequence[tuple[int, Compared]], shown: str) -> str:
    """Accuracy over the training time (a log scale), with intervals; what is not beaten is filled."""
    times = [max(run.seconds, 0.1) for _, run in runs]
    first, last = math.floor(2 * math.log10(min(times))) / 2, math.ceil(2 * math.log10(max(times)) + 1e-9) / 2
    ends = [end for _, run in runs for end in (run.interval or (run.accuracy, run.accuracy))]
    low, high = math.floor(10 * min(ends)) / 10, min(1.0, math.ceil(10 * max(ends)) / 10)
    if high <= low:
        low, high = max(0.0, low - 0.1), min(1.0, high + 0.1)

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log10(max(seconds, 0.1)) - first) / max(last - first, 0.5)

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (share - low) / (high - low)

    def points() -> Iterator[dict[str, Any]]:
        for number, run in runs:
            interval = [y(end) for end in run.interval] if run.interval else None
            yield {"run": run, "number": number, "x": x(run.seconds), "y": y(run.accuracy), "ends": interval}

    return render(
        "train/picture.html.jinja",
        left=LEFT,
        right=RIGHT,
        times=[(x(tick), duration(tick)) for tick in TICKS_SECONDS if first <= math.log10(tick) <= last],
        shares=[(y(tenth / 10), f"{10 * tenth} %") for tenth in range(round(10 * low), round(10 * high) + 1)],
        points=list(points()),
        shown=shown,
    )
