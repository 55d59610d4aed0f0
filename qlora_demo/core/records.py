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
class Evaluation(Event):
    """The model judged on a whole split after `step` optimizer steps (0 = before training)."""

    event: ClassVar[str] = "evaluation"
    step: int
    loss: float
    accuracy: float
    macro_f1: float
    mae_stars: float | None
    split: str


@dataclass(frozen=True)
class Baseline(Event):
    """What a rating costs without a network, judged on a whole split before step 1: "majority" or
    "tfidf-logistic-regression".
    """

    event: ClassVar[str] = "baseline"
    name: str
    loss: float
    accuracy: float
    macro_f1: float
    mae_stars: float | None
    split: str


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
    """What nvidia-smi tells of the GPU, every few seconds: utilisation as a share (0 to 1), bytes in use by all,
    degrees Celsius, watts.
    """

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


NO_COLUMN = "-"  # as the name of a column: none, though one would be found


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the user says of rows of reviews; empty or None = found. Column names; how the file is written; the labels
    that count, in order.

    title: NO_COLUMN = none. mend: HTML entities and mojibake are brought back to characters.
    """

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
    """The run goes on after `step`, from its checkpoint (0 without one): what was told of later steps is void, they
    come again.
    """

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
class MemoryStage:
    """The bytes of one stage of QLoRA. total = weights + constants + buffers + adapter."""

    name: str
    source: Literal["predicted", "measured"]
    weights_bytes: int
    constants_bytes: int
    buffers_bytes: int
    adapter_bytes: int
    quantized_layers: int
    kept_layers: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.constants_bytes + self.buffers_bytes + self.adapter_bytes

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total_bytes": self.total_bytes}


@dataclass(frozen=True)
class Budget:
    """What a training step takes, predicted for one batch of `batch_size` x `length` tokens. All parts in bytes.

    weights, constants, buffers, adapter: the model as training holds it. gradients, optimizer: of the trained
    parameters. activations: kept by the forward pass for the backward pass, the batch itself included. logits: the
    model's answer. workspace: the most that is alive for a moment beside all of these (a dequantized matrix, gradients
    of activations, the block recomputed under gradient checkpointing). overlap: what of the sum is never there at once,
    since activations go while gradients come. allocator: what the C library holds beyond that, on a CPU (0 where it
    cannot tell)."""

    batch_size: int
    length: int
    precision: str
    device: str
    optimizer: str
    gradient_checkpointing: bool
    weights_bytes: int
    constants_bytes: int
    buffers_bytes: int
    adapter_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    workspace_bytes: int
    overlap_bytes: int
    allocator_bytes: int

    @property
    def model_bytes(self) -> int:
        return self.weights_bytes + self.constants_bytes + self.buffers_bytes + self.adapter_bytes

    @property
    def step_bytes(self) -> int:
        """What training adds to a loaded model at its peak."""
        parts = (
            self.gradients_bytes
            + self.optimizer_bytes
            + self.activations_bytes
            + self.logits_bytes
            + self.workspace_bytes
        )
        return parts - self.overlap_bytes + self.allocator_bytes

    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.step_bytes

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "model_bytes": self.model_bytes,
            "step_bytes": self.step_bytes,
            "total_bytes": self.total_bytes,
        }


@dataclass(frozen=True)
class BudgetReading:
    """One training step measured in a process of its own: resident bytes on a CPU, allocated ones on a GPU.

    libraries: before any model. loading_peak: the most while it was loaded. loaded: the model as training holds it.
    standing: after a first short pass, which maps the matrix libraries' code. peak: the most during the steps;
    peak_anonymous of it is no mapped file (CPU), peak_reserved is what torch's allocator took from the GPU (CUDA).
    step_seconds: the second step took so long; prediction_seconds: what the prediction cost there."""

    libraries_bytes: int
    loading_peak_bytes: int
    loaded_bytes: int
    standing_bytes: int
    peak_bytes: int
    peak_anonymous_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    step_seconds: float | None = None
    prediction_seconds: float | None = None

    @property
    def step_bytes(self) -> int:
        return self.peak_bytes - self.standing_bytes

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "step_bytes": self.step_bytes}


@dataclass(frozen=True)
class ProcessReading:
    """What the process took for one stage: resident bytes on a CPU, allocated ones on a GPU.

    before: without the model. peak: the most while it was loaded and transformed. anonymous: of those, what is no
    mapped file (CPU). held: once it stood. reserved: what torch's allocator then had from the GPU (CUDA)."""

    stage: str
    before_bytes: int
    peak_bytes: int
    held_bytes: int
    before_anonymous_bytes: int | None = None
    peak_anonymous_bytes: int | None = None
    reserved_bytes: int | None = None

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
class Estimate:
    """What a public memory calculator's formula gives for one model.

    quantity: which stage its weights are (fp16, nf4, nf4-dq). weights_bytes: what it gives for the weights; bytes: what
    it gives in all, more where it adds something for serving. source, read: where it is published, and which version
    was read. why: what it misses."""

    name: str
    source: str
    read: str
    formula: str
    quantity: str
    weights_bytes: int
    bytes: int
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
