"""The events of a run for the live page: each read once for all who watch, sent in answers of bounded size.

A page that keeps up is sent every new row. One that asks for everything (a reload) or slept is sent a long run thinned:
of each bucket of rows the lowest and the highest of every curve, so that a peak is never lost."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, TypedDict

from ...core.names import TFIDF
from ...core.records import EventLine
from ...jobs.store import Job, to_json
from .curves_in_words import read_curves

Row = tuple[Any, ...]  # (seq, step, value ...); an unknown value is None

RUNS_KEPT = 8
ROWS_BYTES = 40_000  # of the rows in one answer: with all that stands around them it stays under 50 kB
AT_ONCE = 100  # as many new rows of a curve are sent as they are, however long the run
MOST_ROWS = 20_000  # kept of a curve, some 5 MB; beyond, it is thinned to half
MOST_PINNED, MOST_NOTICES = 5, 50
LONGEST_TEXT, LONGEST_NOTICE = 400, 500  # characters
SEQ, STEP = 0, 1
KINDS = ("points", "evaluations", "notices", "pinned", "scorings")  # of rows, in the order of an answer


class Gpu(TypedDict):
    """The last reading of the GPU (records.GpuReading)."""

    utilization: float | None
    memory_bytes: int | None
    celsius: float | None
    watts: float | None


class PhaseNow(TypedDict):
    """What the run is doing (records.Phase)."""

    name: str | None
    detail: str | None
    progress: float | None


class Chance(TypedDict):
    """What guessing among so many labels comes to."""

    labels: int
    loss: float
    accuracy: float


class Latest(TypedDict):
    """What every answer holds, because it is short. loss, rate, memory: of the last step; reading: the curves in
    words.
    """

    phase: PhaseNow | None
    seconds_left: float | None
    chance: Chance
    baselines: dict[str, float]
    gpu: Gpu | None
    loss: float | None
    accuracy: float | None
    rate: float | None
    memory: int | None
    reading: str


class News(Latest):
    """The answer of a feed, as `EventFeed.news` describes it."""

    born: str
    fresh: bool
    more: bool
    points: list[list[float | None]]
    evaluations: list[list[float | None]]
    notices: list[list[str]]
    pinned: list[list[Any]]
    scorings: list[list[float]]
    after: int
    back_to: int | None


class Curve:
    """Rows in the order of their steps. `extremes`: the columns whose lowest and highest survive thinning; `level`: the
    column that becomes a bucket's mean, for what is smoothed later. `most`: about as many rows are sent of the whole
    curve."""

    def __init__(self, extremes: tuple[int, ...], most: int, level: int | None = None):
        self.extremes, self.most, self.level = extremes, most, level
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """A step that is there already is not repeated: the last evaluation of a run is that of the kept checkpoint."""
        if self.rows and row[STEP] <= self.rows[-1][STEP]:
            return
        self.rows.append(row)
        if len(self.rows) > MOST_ROWS:
            self.rows = self._thin(0, self._width(MOST_ROWS // 2))

    def go_back(self, step: int) -> None:
        while self.rows and self.rows[-1][STEP] > step:
            self.rows.pop()

    def since(self, after: int) -> list[Row]:
        """The rows after event `after`; where they are many and the curve is long, thinned."""
        begin = bisect_right(self.rows, after, key=itemgetter(SEQ))
        width = self._width(self.most)
        return self.rows[begin:] if width == 1 or len(self.rows) - begin <= AT_ONCE else self._thin(begin, width)

    def _width(self, most: int) -> int:
        """Rows in a bucket: a power of two, so that a growing run keeps its buckets from one answer to the next."""
        if len(self.rows) <= most:
            return 1
        buckets = most // (2 * len(self.extremes))
        return int(2 ** math.ceil(math.log2(len(self.rows) / buckets)))

    def _thin(self, begin: int, width: int) -> list[Row]:
        """The extremes of each bucket from row `begin` on; the first and the last row stay."""
        kept: list[Row] = []
        for start in range(begin - begin % width, len(self.rows), width):
            bucket = self.rows[max(start, begin) : start + width]
            chosen = {0} if not kept else set()
            if start + width >= len(self.rows):
                chosen.add(len(bucket) - 1)
            for column in self.extremes:
                known = [n for n, row in enumerate(bucket) if row[column] is not None]
                if known:
                    value = [row[column] for row in bucket].__getitem__
                    chosen |= {min(known, key=value), max(known, key=value)}
            rows = [bucket[n] for n in sorted(chosen)]
            if self.level is not None:
                mean = _mean([row[self.level] for row in bucket])
                rows = [(*row[: self.level], mean, *row[self.level + 1 :]) for row in rows]
            kept += rows
        return kept


class RunEvents:
    """What one file of events says so far."""

    def __init__(self) -> None:
        self.last = 0  # the number of the last event
        self.curves = {
            "points": Curve(extremes=(2, 3, 4, 5, 6), most=900, level=7),
            "evaluations": Curve(extremes=(2, 3), most=300),
        }
        self.texts: list[tuple[int, str, list[str]]] = []
        self.probes: list[Curve] = []  # of each text
        self.notices: list[tuple[int, str]] = []
        self.resumed: list[tuple[int, int]] = []
        self.baselines: dict[str, float] = {}  # accuracy on the validation split, by name
        self.phase = EventLine()
        self.gpu: Gpu | None = None
        self.labels: int | None = None
        self.steps_total: int | None = None
        self.accuracy: float | None = None
        self.ended = False
        self._reading, self._reading_at = "", 0

    def take(self, event: EventLine) -> None:
        seq = event["seq"]
        match event["event"]:
            case "step":
                loss = _short(event["loss"])
                rest = [_short(event[name]) for name in ("learning_rate", "grad_norm", "reviews_per_second")]
                self.curves["points"].add((seq, event["step"], loss, *rest, event["memory_bytes"], loss))
            case "evaluation" if event["split"] == "validation":
                self.accuracy = event["accuracy"]
                self.curves["evaluations"].add((seq, event["step"], _short(event["loss"]), _short(event["accuracy"])))
            case "probe":
                self._take_probe(seq, event)
            case "baseline" if event["split"] == "validation":
                self.baselines[event["name"]] = event["accuracy"]
            case "gpu":
                self.gpu = Gpu(
                    utilization=event["utilization"],
                    memory_bytes=event["memory_bytes"],
                    celsius=event["celsius"],
                    watts=event["watts"],
                )
            case "warning":
                self.notices = [*self.notices, (seq, event["message"][:LONGEST_NOTICE])][-MOST_NOTICES:]
            case "phase":
                self.phase, self.ended = event, False
                self.labels = event.get("labels") or self.labels
                self.steps_total = event.get("steps") or self.steps_total
            case "resumed":
                self.resumed.append((seq, event["step"]))
                for curve in (*self.curves.values(), *self.probes):
                    curve.go_back(event["step"])
            case "finished":
                self.ended = True
        self.last = seq

    def _take_probe(self, seq: int, event: EventLine) -> None:
        text, shares = event["text"][:LONGEST_TEXT], event["probabilities"]
        known = [pinned for _, pinned, _ in self.texts]
        if text not in known:
            if len(known) == MOST_PINNED:
                return
            known.append(text)
            self.texts.append((seq, text, list(shares)))
            self.probes.append(Curve(extremes=(2,), most=100))
        expected = sum(rank * share for rank, share in enumerate(shares.values(), start=1))
        row = (seq, event["step"], round(expected, 2), *(round(share, 3) for share in shares.values()))
        self.probes[known.index(text)].add(row)

    def since(self, after: int, pinned: bool) -> list[tuple[int, str, list[Any]]]:
        """(event number, kind, row) of all that is new, in the order it happened."""
        new = [(row[SEQ], name, list(row[1:])) for name, curve in self.curves.items() for row in curve.since(after)]
        new += [(seq, "notices", [message]) for seq, message in self.notices if seq > after]
        for n, (seq, text, labels) in enumerate(self.texts if pinned else []):
            new += [(seq, "pinned", [n, text, labels])] if seq > after else []
            new += [(row[SEQ], "scorings", [n, *row[1:]]) for row in self.probes[n].since(after)]
        return sorted(new, key=itemgetter(0))

    def resumed_since(self, after: int) -> int | None:
        """The lowest step from which the run was resumed after event `after`; None where it was not."""
        return min((step for seq, step in self.resumed if seq > after), default=None)

    def latest(self) -> Latest:
        """What every answer holds."""
        labels, steps = self.labels or 5, self.curves["points"].rows
        phase = self.phase
        return {
            "phase": {"name": phase.get("name"), "detail": phase.get("detail"), "progress": phase.get("progress")}
            if phase
            else None,
            "seconds_left": self.phase.get("seconds_left"),
            "chance": {"labels": labels, "loss": math.log(labels), "accuracy": 1 / labels},
            "baselines": self.baselines,
            "gpu": self.gpu,
            "loss": steps[-1][2] if steps else None,
            "accuracy": self.accuracy,
            "rate": steps[-1][5] if steps else None,
            "memory": steps[-1][6] if steps else None,
            "reading": self._read_curves(labels),
        }

    def _read_curves(self, labels: int) -> str:
        """Read once for each new state of the curves, not for each page."""
        if self._reading_at != self.last:
            self._reading_at = self.last
            self._reading = read_curves(
                [(row[1], row[7]) for row in self.curves["points"].rows if row[7] is not None],
                [(row[1], row[2], row[3]) for row in self.curves["evaluations"].rows if row[2] is not None],
                labels=labels,
                word_counts=self.baselines.get(TFIDF),
                steps_total=self.steps_total,
                ended=self.ended,
            )
        return self._reading


class EventFeed:
    """One run, as its events describe it; several threads may ask."""

    def __init__(self, folder: Path):
        self._job = Job(folder)
        self._lock = threading.Lock()
        self._born, self._size, self._events = "", 0, RunEvents()

    def news(self, created: float, after: int, born: str = "", *, pinned: bool = True) -> News:
        """What is new for a page that has everything up to event `after` of the feed `born` ("" = any).

        `created` is the run's (Unix seconds). `fresh`: the page must forget what it has drawn; `back_to`: what it has
        drawn of later steps; `more`: it should ask again at once. Points are [step, train loss, learning rate, gradient
        norm, reviews per second, memory in bytes, mean loss around it], evaluations [step, loss, accuracy], scorings
        [number of the pinned review, step, expected rank from 1, probability of each label]. `pinned`: whether the
        texts of pinned reviews may be sent."""
        with self._lock:
            self._read(created)
            events = self._events
            fresh = after == 0 or after > events.last or born not in ("", self._born)
            after = 0 if fresh else after
            rows: dict[str, list[Any]] = {name: [] for name in KINDS}
            left_bytes, reached, more = ROWS_BYTES, after, False
            for seq, name, row in events.since(after, pinned):
                left_bytes -= len(to_json(row)) + 2
                if left_bytes < 0 and seq != reached:  # never between two rows of one event
                    more = True
                    break
                rows[name].append(row)
                reached = seq
            points, evaluations, notices, texts, scorings = rows.values()
            return News(
                born=self._born,
                fresh=fresh,
                more=more,
                points=points,
                evaluations=evaluations,
                notices=notices,
                pinned=texts,
                scorings=scorings,
                after=reached if more else events.last,
                back_to=None if fresh else events.resumed_since(after),
                **events.latest(),
            )

    def _read(self, created: float) -> None:
        """Take in what is new in the file; begin anew where it is another one than before."""
        try:
            file = (self._job.folder / "events.jsonl").stat()
            born, size = f"{created}-{file.st_ino}", file.st_size
        except FileNotFoundError:
            born, size = f"{created}-0", 0
        if born != self._born or size < self._size:
            self._born, self._size, self._events = born, 0, RunEvents()
        if size != self._size:
            for event in self._job.events(self._events.last):
                self._events.take(event)
            self._size = size


@lru_cache(maxsize=RUNS_KEPT)
def feed_of(folder: Path) -> EventFeed:
    """The feed of a job's folder, the same one for all who ask; the least recently watched are dropped."""
    return EventFeed(folder)


def _short(value: float | None) -> float | None:
    """Six digits: more cannot be seen, and would double an answer."""
    return None if value is None else float(f"{value:.6g}")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _short(sum(known) / len(known)) if known else None
