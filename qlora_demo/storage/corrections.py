"""What users say a review's stars should have been: one JSON object a line, kept beside the runs, and training data as
it is.

Each line is {time (Unix seconds), adapter, text, label (the right one), answered (the one that was given)}. Several
processes may write."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from ..core.errors import DataError

FILE = "feedback.jsonl"
MAX_FILE_BYTES = 64 * 1024**2  # visitors of a public host must not fill its disk
LONGEST_TEXT = 50_000  # characters; as the classifier takes


class Correction(TypedDict):
    """A line of the file; all but the review and its right label may be missing in lines that others wrote."""

    time: NotRequired[float]
    adapter: NotRequired[str]
    text: str
    label: str
    answered: NotRequired[str]


class Feedback:
    """The file in a home of runs."""

    def __init__(self, home: Path):
        self.path = home / FILE

    def add(self, text: str, label: str, *, adapter: str, answered: str) -> int:
        """Keeps one correction; how many there are now. Raises DataError where it says nothing or cannot be kept."""
        if not text.strip() or len(text) > LONGEST_TEXT:
            raise DataError(f"The review has {len(text):,} characters; mark one of 1 to {LONGEST_TEXT:,}.")
        if label == answered:
            raise DataError(f"{label} is what was answered; choose the label that would be right.")
        # Half a letter, as a browser may send it, is no UTF-8.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        row = {"time": round(time.time(), 3), "adapter": adapter, "text": text, "label": label, "answered": answered}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.tell() + len(line) > MAX_FILE_BYTES:
                    raise DataError(
                        f"There are {MAX_FILE_BYTES // 1024**2} MiB of corrections; export and delete them first."
                    )
                file.write(line)
        except OSError as error:
            raise DataError(
                f"The correction could not be saved: {error.strerror or 'input or output error'}; try again."
            ) from None
        return sum(1 for _ in self.read())

    def read(self) -> Iterator[Correction]:
        """All corrections, oldest first; a line that cannot be read (a torn last one) is passed over."""
        try:
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    try:
                        correction = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(correction, dict) and {"text", "label"} <= correction.keys():
                        yield cast(Correction, correction)
        except FileNotFoundError:
            return
