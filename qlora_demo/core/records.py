"""The records that cross floors: what a job writes into its folder and what the page and the command line read.

Plain frozen dataclasses; they know neither torch nor gradio. Sizes are bytes, times seconds, losses nats
(natural-log cross-entropy, so a five-way guess costs ln 5 = 1.609).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, TypedDict, cast

State = Literal["queued", "starting", "running", "stopping", "done", "stopped", "failed", "interrupted"]
ACTIVE_STATES: frozenset[str] = frozenset({"starting", "running", "stopping"})
FINAL_STATES: frozenset[str] = frozenset({"done", "stopped", "failed", "interrupted"})


class EventLine(TypedDict, total=False):
    """An event as a line of events.jsonl holds it: what the writer adds, then the fields of its kind, described at the
    classes below.
    """

    seq: int
    time: float
    run: str
    event: str
    accuracy: float
    celsius: float | None
    detail: str
    epoch: float
    error: str | None
    grad_norm: float | None
    kind: str
    labels: int | None
    learning_rate: float
    loss: float
    macro_f1: float
    mae_stars: float | None
    measured_bytes: int | None
    memory_bytes: int | None
    message: str
    name: str
    predicted_bytes: int | None
    probabilities: dict[str, float]
    progress: float | None
    report: str | None
    reviews_per_second: float
    seconds_left: float | None
    split: str
    state: str
    step: int
    steps: int | None
    suggestion: Mapping[str, object] | None
    text: str
    tokens_per_second: float
    utilization: float | None
    watts: float | None


class Scores(TypedDict, total=False):
    """What a summary says of how good a run is; step: of the evaluation, where it is none of a report's."""

    step: int
    split: str
    loss: float
    accuracy: float
    macro_f1: float
    mae_stars: float | None


class Answer(TypedDict):
    """A line of answers.jsonl: a review, its right label and the likeliest one (as indices), and the probability of
    each label.
    """

    split: str
    text: str
    label: int
    guess: int
    probabilities: list[float]


class Event:
    """One line of events.jsonl, less the `seq`, `time`, `run` that the writer adds."""

    event: ClassVar[str]

    def to_dict(self) -> EventLine:
        """`{"event": name, ...fields}`, ready for JSON."""
        return cast(EventLine, {"event": self.event, **asdict(self)})  # type: ignore[call-overload]


@dataclass(frozen=True)
class Phase(Event):
    """What the job is doing now.

    `progress` runs from 0 to 1, None where it is not known; `steps` is the whole run's number of optimizer steps and
    `labels` its number of classes, where known; `seconds_left` is to the end of the phase."""

    event: ClassVar[str] = "phase"
    name: str
    detail: str = ""
    progress: float | None = None
    steps: int | None = None
    labels: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Step(Event):
    """One logged optimizer step. Rates are since the last step event, evaluation not counted."""

    event: ClassVar[str] = "step"
    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    reviews_per_second: float
    tokens_per_second: float
    memory_bytes: int


@dataclass(frozen=True)
class _Scores(Event):
    """A classifier evaluated on a whole split."""

    loss: float
    accuracy: float
    macro_f1: float
    mae_stars: float | None
    split: str


@dataclass(frozen=True)
class Evaluation(_Scores):
    """The model evaluated after `step` optimizer steps (0 = before training)."""

    event: ClassVar[str] = "evaluation"
    step: int


@dataclass(frozen=True)
class Baseline(_Scores):
    """A classifier without a network, evaluated before step 1; its name is one of names.BASELINES."""

    event: ClassVar[str] = "baseline"
    name: str


@dataclass(frozen=True)
class Probe(Event):
    """A pinned review scored after `step` steps; probabilities by label, summing to 1."""

    event: ClassVar[str] = "probe"
    step: int
    text: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class MemoryReading(Event):
    """Predicted beside measured bytes of one `kind`: a stage's name, or "training_peak"."""

    event: ClassVar[str] = "memory"
    kind: str
    predicted_bytes: int | None
    measured_bytes: int | None


@dataclass(frozen=True)
class GpuReading(Event):
    """The GPU, every few seconds: utilization as a share (0 to 1), bytes in use by all, degrees Celsius, watts."""

    event: ClassVar[str] = "gpu"
    utilization: float | None
    memory_bytes: int | None
    celsius: float | None
    watts: float | None


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know that does not end the run."""

    event: ClassVar[str] = "warning"
    message: str


NO_COLUMN = "-"  # as the name of a column: none, though one would be detected


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How rows of reviews are to be read, by the user; empty or None = detected. Column names; the file's format; the
    labels that count, in order.

    title: NO_COLUMN = none. mend: fix encoding errors and HTML entities."""

    text: str = ""
    title: str = ""
    label: str = ""
    encoding: str = ""
    delimiter: str = ""
    header: bool | None = None
    labels: tuple[str, ...] = ()
    mend: bool = False


@dataclass(frozen=True)
class Resumed(Event):
    """The run continues after `step`, from its checkpoint (0 without one); earlier events of later steps are void."""

    event: ClassVar[str] = "resumed"
    step: int


@dataclass(frozen=True)
class Finished(Event):
    """The last event of a job; `report` is the report's path, None where there is none.

    suggestion: where memory ran out, the smallest change of the settings that is predicted to fit, by field; None where
    none is known."""

    event: ClassVar[str] = "finished"
    state: str
    error: str | None
    report: str | None
    suggestion: Mapping[str, object] | None = None


@dataclass(frozen=True)
class RunSummary:
    """A job as `runs` and `show` print it.

    metrics: of the report's test split where there is one, else of the latest evaluation. position: 1 is the next to
    start; it and wait_seconds are None where the job does not wait. created: Unix seconds."""

    run: str
    state: str
    kind: str
    name: str
    model: str | None
    data: str | None
    steps_done: int
    steps_total: int | None
    metrics: Scores | None
    position: int | None
    wait_seconds: float | None
    created: float
    error: str | None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Fit:
    """The largest power of two of reviews a step on one GPU (or machine) by one way of training; 0 where not even one
    fits.

    device: "cuda", or "cpu" where `memory_bytes` is main memory. hour_dollars: None where there is no price, 0 where it
    is free."""

    gpu: str
    memory_bytes: int
    way: str
    batch_size: int
    needed_bytes: int
    device: str = "cuda"
    hour_dollars: float | None = None


@dataclass(frozen=True)
class Prediction:
    """One classified text. `stars` and `expected_stars` (1..k) are None where labels are not ordinal."""

    text: str
    label: str
    stars: int | None
    expected_stars: float | None
    probabilities: dict[str, float]
    truncated: bool

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class PrecisionCost:
    """What one precision of the base costs: bytes of its weights, constants and buffers (the adapter is not counted),
    and seconds a review, in batches. restored: its 4-bit weights were dequantized once, ahead of all reviews.
    """

    precision: str
    weights_bytes: int
    restored: bool
    seconds: float | None


@dataclass(frozen=True)
class PrecisionComparison:
    """How far two precisions of one adapter agree on `rows` reviews. same_label: a share of them; largest_difference:
    of a probability; both are None of no rows.
    """

    rows: int
    same_label: float | None
    largest_difference: float | None
    sides: tuple[PrecisionCost, PrecisionCost]


@dataclass(frozen=True)
class Machine:
    """What the page says of the machine it runs on. `gpu_bytes` is 0 without a GPU; `preset` is the run that fits;
    `storage`: what becomes of runs at a restart, "" where they simply stay."""

    device: Literal["cuda", "cpu"]
    name: str
    reason: str
    memory_bytes: int
    gpu_bytes: int
    hub_reachable: bool
    preset: str
    preset_reason: str
    storage: str = ""


@dataclass(frozen=True)
class Download:
    """What would be fetched from the Hub before a job can begin."""

    name: str
    kind: Literal["model", "dataset"]
    download_bytes: int
    free_disk_bytes: int
    license: str | None
    gated: bool
