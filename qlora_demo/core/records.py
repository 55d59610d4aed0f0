"""The records that cross floors: what a job writes into its folder and what the page and the command line read.

Plain frozen dataclasses; they know neither torch nor gradio. Sizes are bytes, times seconds, losses nats
(natural-log cross-entropy, so a five-way guess costs ln 5 = 1.609).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

State = Literal["queued", "starting", "running", "stopping", "done", "stopped", "failed", "interrupted"]
ACTIVE_STATES: frozenset[str] = frozenset({"starting", "running", "stopping"})
FINAL_STATES: frozenset[str] = frozenset({"done", "stopped", "failed", "interrupted"})


class Event:
    """One line of events.jsonl, less the `seq`, `time`, `run` that the writer adds."""

    event: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """`{"event": name, ...fields}`, ready for JSON."""
        return {"event": self.event, **asdict(self)}  # type: ignore[call-overload]


EventLine = dict[str, Any]  # an event as events.jsonl holds it: its fields, and `seq`, `time`, `run`, `event`


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
    suggestion: dict[str, Any] | None = None


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
    metrics: dict[str, Any] | None
    position: int | None
    wait_seconds: float | None
    created: float
    error: str | None

    def to_dict(self) -> dict[str, Any]:
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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


@dataclass(frozen=True)
class QuantizationError:
    """How far restored weights are from the original ones, in their unit."""

    mean_absolute: float
    root_mean_square: float
    largest: float


@dataclass(frozen=True)
class StoredBytes:
    """A quantized matrix as it is stored, and the same matrix in FP16."""

    packed: int
    constants: int
    tables: int
    total: int
    fp16: int


@dataclass(frozen=True)
class LayerStudy:
    """One matrix under the microscope.

    spread: its standard deviation; largest: its largest absolute weight. counts: a histogram of the weights divided by
    their block's absmax, over -1 to 1. levels: (level, share of the weights at it), ascending. used_bits: entropy of
    the codes. errors: by data type. map: mean absolute error of the first blocks, a row each, in cells of equally many
    weights and in standard deviations; absmax: of these blocks. worst_block: its number; the errors beside it: means
    of a block, in the unit of the weights.
    """

    kind: str
    block_size: int
    double: bool
    shape: tuple[int, int]
    spread: float
    largest: float
    blocks: int
    counts: list[int]
    levels: list[tuple[float, float]]
    bits: float
    used_bits: float
    error: QuantizationError
    errors: dict[str, QuantizationError]
    bytes: StoredBytes
    map: list[list[float]]
    absmax: list[float]
    worst_block: int
    worst_block_error: float
    median_block_error: float


@dataclass(frozen=True)
class ShapeStudy:
    """A model in FP16 and in NF4 with double quantization, predicted from its shape; matrices: those quantized."""

    model: str
    parameters: int
    vocabulary: int
    fp16_bytes: int
    nf4_bytes: int
    embedding_bytes: int
    matrices_fp16_bytes: int
    matrices_nf4_bytes: int
    constants_bytes: int


@dataclass(frozen=True)
class OptimizerState:
    """AdamW's two moments of `trained` parameters; of a run also its measured peak and what kind of memory that is."""

    trained: int
    state_bytes: int
    state_8bit_bytes: int
    peak_bytes: int | None = None
    peak_is: str = ""
