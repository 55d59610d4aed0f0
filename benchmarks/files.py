"""How fast a file of reviews is classified, and in how much memory: `python -m benchmarks.files 2000 20000
[short:100000]`.

Each size in a process of its own, with the shipped adapter; the reviews are the sample's, numbered so that no two are
equal, or (short:) of one word. Prints the tables of files.md."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
MiB = 1024**2


def write_reviews(path: Path, rows: int, short: bool) -> None:
    """A CSV of `rows` reviews: number, text, stars."""
    sample = [
        json.loads(line) for line in (ROOT / "assets" / "sample_reviews" / "train.jsonl").read_text().splitlines()
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "text", "rating"])
        for i in range(rows):
            review = sample[i % len(sample)]
            writer.writerow([i, f"good {i}" if short else f"{review['text']} {i}", review["label"] + 1])


class Peak:
    """The most resident memory of this process, looked at ten times a second."""

    def __init__(self) -> None:
        self.bytes, self._process, self._over = 0, psutil.Process(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def end(self) -> int:
        self._over.set()
        return self.bytes


def measure(rows: int, short: bool) -> dict[str, float]:
    """In this process: seconds on the clock and of the processor, and resident MiB before the file and at the most."""
    from qlora_demo.engine.classify import classify_file, exporting
    from qlora_demo.engine.classify.classifier import Classifier
    from qlora_demo.engine.data.columns import Columns

    with tempfile.TemporaryDirectory() as place:
        path, folder = Path(place) / "in.csv", Path(place)
        write_reviews(path, rows, short)
        classifier = Classifier("sample", restored=True)
        classifier.classify(["A first review maps the libraries' code."] * 64)
        before, peak = psutil.Process().memory_info().rss, Peak()
        worked = time.process_time()
        report = classify_file.classify_file(path, Columns(), classifier, folder)
        worked = time.process_time() - worked
        began = time.monotonic()
        exporting.write_csv(folder, folder / "out.csv")
        exporting.write_parquet(folder, folder / "out.parquet")
        written = time.monotonic() - began
        return {
            "rows": rows,
            "seconds": report.seconds,
            "worked_seconds": worked,
            "written_seconds": written,
            "before_mib": before / MiB,
            "peak_mib": peak.end() / MiB,
            "result_mib": (folder / "predictions.jsonl").stat().st_size / MiB,
            "accuracy": report.final["test"].accuracy,
        }


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        kind, _, rows = sys.argv[2].rpartition(":")
        print(json.dumps(measure(int(rows), kind == "short")))
        return
    heads = (
        "reviews",
        "classified in",
        "of it processor time",
        "a second of that",
        "result",
        "CSV and Parquet written in",
        "resident before",
        "at the most",
    )
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for size in sys.argv[1:] or ["2000", "20000"]:
        command = [sys.executable, "-m", "benchmarks.files", "--one", size]
        found = json.loads(
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
        kind = " short ones" if size.startswith("short:") else ""
        print(
            f"| {found['rows']:,}{kind} | {found['seconds']:.0f} s | {found['worked_seconds']:.0f} s | "
            f"{found['rows'] / found['worked_seconds']:.0f} | {found['result_mib']:.1f} MiB | "
            f"{found['written_seconds']:.1f} s | {found['before_mib']:.0f} MiB | {found['peak_mib']:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
