"""The figures of a card: PNG files that are small, white, and the same each time; and which are drawn of what there
is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qlora_demo.core.run_report import RunReport
from qlora_demo.hub.figures import draw_figures
from tests.drawn_runs import HOSTILE, story
from tests.reviews import shipped_report

REPORT = shipped_report()
MOST_BYTES = 60_000


def told(steps: int, evaluations: int) -> list[dict[str, Any]]:
    return [event.to_dict() for event in story(steps, steps, evaluations)]


@pytest.mark.parametrize("steps", [30, 4000])
def test_figures_are_small_white_and_the_same_each_time(tmp_path: Path, steps: int) -> None:
    (tmp_path / "again").mkdir()
    drawn = draw_figures(RunReport.model_validate(REPORT), told(steps, 4), tmp_path)
    assert [figure.name for figure in drawn] == ["curves.png", "confusion.png", "reliability.png"]
    assert drawn == draw_figures(RunReport.model_validate(REPORT), told(steps, 4), tmp_path / "again")
    for figure in drawn:
        path = tmp_path / figure.name
        assert path.stat().st_size < MOST_BYTES and path.read_bytes() == (tmp_path / "again" / figure.name).read_bytes()
        with Image.open(path) as image:
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255) and min(image.size) >= 300
            colours = image.convert("RGB").getcolors(1 << 24) or []
        assert sum(count for count, colour in colours if max(colour) - min(colour) > 60) > 300, "nothing is drawn"
        assert len(figure.alt) > 20


def test_an_alt_text_says_the_reports_numbers(tmp_path: Path) -> None:
    curves, confusion, _ = draw_figures(RunReport.model_validate(REPORT), told(40, 4), tmp_path)
    test = REPORT["final"]["test"]
    assert f"{sum(test['confusion'][i][i] for i in range(5))} have the right label" in confusion.alt
    losses = [event["loss"] for event in told(40, 4) if event["event"] == "step"]
    assert f"from {losses[0]:.2f} to {losses[-1]:.2f}" in curves.alt


def test_only_what_there_are_numbers_for_is_drawn(tmp_path: Path) -> None:
    old = copy.deepcopy(REPORT)
    del old["final"]["test"]["calibration"], old["calibration"]
    assert [figure.name for figure in draw_figures(RunReport.model_validate(old), [], tmp_path)] == ["confusion.png"]
    old["final"]["test"]["labels"] = old["final"]["test"]["labels"][:3]
    assert draw_figures(RunReport.model_validate(old), told(40, 4)[:5], tmp_path) == ()


@pytest.mark.parametrize("label", [HOSTILE, "$x^2$ and $\\frac{1}{2}$", "$", "\u202eevil\n\x00", "好评 🙂", ""])
def test_labels_are_text(tmp_path: Path, label: str) -> None:
    report = copy.deepcopy(REPORT)
    report["final"]["test"]["labels"] = [f"{label} {i}" for i in range(5)]
    assert (tmp_path / draw_figures(RunReport.model_validate(report), [], tmp_path)[0].name).stat().st_size > 1000
