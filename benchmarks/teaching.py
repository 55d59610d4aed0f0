"""What a lesson of twenty steps learns and forgets: `python -m benchmarks.teaching`. Writes benchmarks/teaching.md.

Four reviews, one of them with a label that is plainly wrong, each taught to a fresh copy of the shipped adapter, with
and without replayed reviews."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.teaching import STEPS, Taught, teach
from qlora_demo.engine.models.device import choose_device

RESULT = Path(__file__).parent / "teaching.md"
HELD_OUT = 200
LESSONS = [
    ("Oh wonderful, another charger that works for exactly one week.", 0),
    ("It does what it should, nothing more. The instructions are hard to read.", 2),
    ("My grandmother uses it daily and so do I.", 4),
    ("I love this product, it works exactly as described!", 1),
]
WAYS = [(0, 1e-4), (0, 3e-4), (0, 1e-3), (8, 3e-4), (16, 3e-4), (16, 1e-3)]


def main() -> int:
    rows = "\n".join(
        row(replayed, rate, [lesson(text, label, replayed, rate) for text, label in LESSONS]) for replayed, rate in WAYS
    )
    RESULT.write_text(
        f"# A lesson of {STEPS} steps\n\n`python -m benchmarks.teaching`, {datetime.now(UTC):%Y-%m-%d},"
        f" {choose_device('cpu').reason} Four lessons each; the fourth sets a wrong label. Held out: {HELD_OUT} test"
        " reviews of the sample.\n\n| replayed a step | learning rate | probability of the taught label after |"
        " accuracy held out, change in points | error in stars, change | labels kept | seconds"
        f" |\n|---|---|---|---|---|---|---|\n{rows}\n"
    )
    print(RESULT.read_text())
    return 0


def lesson(text: str, label: int, replayed: int, rate: float) -> Taught:
    copy = Classifier("sample", on_cpu=True, restored=True)
    return teach(copy, text, label, replayed=replayed, learning_rate=rate, held_out=HELD_OUT)


def row(replayed: int, rate: float, found: list[Taught]) -> str:
    after = ", ".join(f"{it.after[it.label]:.2f}" for it in found)
    pairs = [(it.held_out_before, it.held_out_after) for it in found]
    accuracy = ", ".join(f"{100 * ((b.accuracy or 0) - (a.accuracy or 0)):+.1f}" for a, b in pairs)
    stars = ", ".join(f"{(b.mae_stars or 0) - (a.mae_stars or 0):+.2f}" for a, b in pairs)
    kept = ", ".join(f"{b.kept:.2f}" for _, b in pairs)
    return (
        f"| {replayed} | {rate:g} | {after} | {accuracy} | {stars} | {kept} |"
        f" {', '.join(f'{it.seconds:.0f}' for it in found)} |"
    )


if __name__ == "__main__":
    sys.exit(main())
