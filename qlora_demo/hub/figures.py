"""The figures of a model card as PNG files: curves with baselines, the confusion matrix, the reliability of the
probabilities.

Drawn from a report and a run's events alone, on white, in colours that the colour-blind tell apart. matplotlib is
imported only here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.format import cut
from ..core.names import BASELINES
from ..core.records import EventLine
from ..core.run_report import ReliabilityBin, RunReport
from .markdown import one_line

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # of Okabe and Ito's palette
CURVES, CONFUSION, RELIABILITY = FIGURES = ("curves.png", "confusion.png", "reliability.png")
MOST_LABELS = 20  # of a confusion matrix that can be drawn small
_DOTS = 100  # an inch


@dataclass(frozen=True)
class Drawing:
    """A figure that lies beside the card: its file's name, and what it shows for those who cannot see it."""

    name: str
    alt: str


def draw_figures(report: RunReport, events: Sequence[EventLine], folder: Path) -> tuple[Drawing, ...]:
    """Draws into `folder` what report and events have numbers for; the drawings in the order in which a card shows
    them.
    """
    test = report.final["test"]
    losses = [(event["step"], event["loss"]) for event in events if event.get("event") == "step"]
    evals = [event for event in events if event.get("event") == "evaluation" and event.get("split") == "validation"]
    drawn = []
    if len(losses) > 1 and evals:
        _draw(folder / CURVES, (8.4, 3.3), lambda figure: _curves(figure, losses, evals, _baselines(events)))
        best = max(event["accuracy"] for event in evals)
        alt = (
            f"Two curves over {losses[-1][0]:,} steps: the training loss goes from {losses[0][1]:.2f} to"
            f" {losses[-1][1]:.2f}; the best validation accuracy is {best:.3f}."
        )
        drawn.append(Drawing(CURVES, alt))
    labels, confusion = test.labels or report.data.labels, test.confusion
    if confusion and len(labels) == len(confusion) <= MOST_LABELS:
        side = 2.2 + 0.5 * len(labels)
        ordinal = report.data.ordinal
        _draw(folder / CONFUSION, (side + 0.6, side), lambda figure: _confusion(figure, labels, confusion, ordinal))
        right = sum(confusion[i][i] for i in range(len(labels)))
        drawn.append(
            Drawing(CONFUSION, f"Confusion matrix of {test.rows:,} test reviews: {right:,} have the right label.")
        )
    if test.calibration and (bins := test.calibration.bins):
        scaled = report.calibration.bins_after if report.calibration else ()
        _draw(folder / RELIABILITY, (4.2, 4.0), lambda figure: _reliability(figure, bins, scaled))
        alt = f"Reliability over {test.rows:,} test reviews: the share that is right against how sure the adapter is."
        drawn.append(Drawing(RELIABILITY, alt))
    return tuple(drawn)


def _draw(path: Path, inches: tuple[float, float], fill: Callable[[Any], None]) -> None:
    """Without pyplot: it keeps figures, and chooses windows by the machine it is on."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Dollars in a label are dollars.
    with matplotlib.rc_context(
        {"text.parse_math": False, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=inches, dpi=_DOTS, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        fill(figure)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a letter that the font has not is drawn as a box
            figure.savefig(path, metadata={"Software": None})


def _baselines(events: Sequence[EventLine]) -> dict[str, EventLine]:
    latest = {
        str(event["name"]): event
        for event in events
        if event.get("event") == "baseline" and event.get("split") == "validation"
    }
    return {BASELINES.get(name, name): event for name, event in latest.items()}


def _curves(
    figure: Any, losses: Sequence[tuple[int, float]], evals: Sequence[EventLine], baselines: Mapping[str, EventLine]
) -> None:
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*losses, strict=True), color=BLUE, linewidth=1, label="training")
    steps = [event["step"] for event in evals]
    left.plot(steps, [event["loss"] for event in evals], color=ORANGE, marker="o", markersize=4, label="validation")
    right.plot(
        steps, [event["accuracy"] for event in evals], color=ORANGE, marker="o", markersize=4, label="validation"
    )
    losses_of = {name: event["loss"] for name, event in baselines.items()}
    accuracies = {name: event["accuracy"] for name, event in baselines.items()}
    for axes, levels in ((left, losses_of), (right, accuracies)):
        for (name, level), style in zip(levels.items(), ("--", ":", "-."), strict=False):
            axes.axhline(level, color=GREY, linestyle=style, linewidth=1.2, label=name)
        axes.set_xlabel("step")
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
    left.set_ylabel("loss, nats")
    left.set_ylim(bottom=0)
    right.set_ylabel("validation accuracy")
    right.set_ylim(0, 1)


def _confusion(figure: Any, labels: Sequence[str], confusion: Sequence[Sequence[int]], ordinal: bool) -> None:
    """Blue where it is right, orange the stronger the farther off; the deeper, the more of the row's reviews."""
    from matplotlib.colors import to_rgb

    axes, count = figure.subplots(), len(labels)
    picture = []
    for true, line in enumerate(confusion):
        row, whole = [], sum(line) or 1
        for guess, rows in enumerate(line):
            distance = abs(true - guess) if ordinal else int(true != guess)
            strength = (rows / whole) ** 0.5 * (0.85 if not distance else 0.5 + 0.5 * distance / max(count - 1, 1))
            row.append([1 - strength * (1 - part) for part in to_rgb(ORANGE if distance else BLUE)])
            ink = "white" if strength > 0.6 else "#222222"
            axes.text(guess, true, f"{rows:,}", ha="center", va="center", color=ink, fontsize=9 if count <= 8 else 7)
        picture.append(row)
    axes.imshow(picture)
    names = [_short(label) for label in labels]
    axes.set_xticks(range(count), names, rotation=0 if count <= 6 and max(map(len, names)) <= 8 else 45, ha="center")
    axes.set_yticks(range(count), names)
    axes.set_xlabel("label given")
    axes.set_ylabel("label of the review")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _reliability(figure: Any, bins: Sequence[ReliabilityBin], scaled: Sequence[ReliabilityBin]) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    most = max(each.rows for each in bins)
    for points, colour, filled, name in ((bins, BLUE, True, "as it is"), (scaled, GREEN, False, "with temperature")):
        if points:
            where = [each.confidence for each in points], [each.accuracy for each in points]
            axes.plot(*where, color=colour, linewidth=1, linestyle="-" if filled else ":")
            areas = [12 + 150 * each.rows / most for each in points]
            axes.scatter(*where, s=areas, color=colour if filled else "none", edgecolors=colour, alpha=0.8, label=name)
    axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="how sure it is (area: reviews)", ylabel="share that is right")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    legend = axes.legend(frameon=False, fontsize=8, loc="upper left")
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([40])


def _short(label: str) -> str:
    return cut(one_line(label), 16)
