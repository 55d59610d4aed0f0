"""What memory a model takes, as records: each stage of QLoRA, a training step, the process around them, and the report
of all of it. Sizes in bytes, times in seconds.

A report is written by services/memory.py and read back by `MemoryReport.parse`, an old one too.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Literal

from pydantic import ConfigDict, computed_field
from pydantic.dataclasses import dataclass
from pydantic_core import to_jsonable_python

from .report import Record, Report

Role = Literal["embedding", "attention", "mlp", "norm", "head", "other"]
_LENIENT = ConfigDict(extra="ignore")


class _Record:
    """What all records here can do."""

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON, sums included."""
        return dict(to_jsonable_python(self))


@dataclass(frozen=True, config=_LENIENT)
class MemoryStage(_Record):
    """The bytes of one stage of QLoRA. total = weights + constants + buffers + adapter."""

    name: str
    source: Literal["predicted", "measured"]
    weights_bytes: int
    constants_bytes: int
    buffers_bytes: int
    adapter_bytes: int
    quantized_layers: int
    kept_layers: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.constants_bytes + self.buffers_bytes + self.adapter_bytes


@dataclass(frozen=True, config=_LENIENT)
class Budget(_Record):
    """What a training step takes, predicted for one batch of `batch_size` x `length` tokens.

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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model_bytes(self) -> int:
        return self.weights_bytes + self.constants_bytes + self.buffers_bytes + self.adapter_bytes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def step_bytes(self) -> int:
        """What training adds to a loaded model at its peak."""
        training = self.gradients_bytes + self.optimizer_bytes + self.activations_bytes + self.logits_bytes
        return training + self.workspace_bytes - self.overlap_bytes + self.allocator_bytes

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_bytes(self) -> int:
        return self.model_bytes + self.step_bytes


@dataclass(frozen=True, config=_LENIENT)
class BudgetReading(_Record):
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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def step_bytes(self) -> int:
        return self.peak_bytes - self.standing_bytes


@dataclass(frozen=True, config=_LENIENT)
class Receipt(_Record):
    """A run's predicted beside its measured peak. standing: measured before step 1; error: predicted / measured - 1;
    at_step: where the peak was measured. None where there is nothing to say."""

    predicted_peak_bytes: int | None
    standing_bytes: int
    error: float | None
    at_step: int | None
    budget: Budget | None


@dataclass(frozen=True, config=_LENIENT)
class ProcessReading(_Record):
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


@dataclass(frozen=True, config=_LENIENT)
class ModuleMemory(_Record):
    """One module that holds tensors, in FP16 (before) and as NF4 with double quantization (after).

    group: the name with * for layer numbers, so that equal layers can be folded. shape: of the weight, as the module
    holds it unquantized. bytes: constants included. changed: whether it is quantized. layer: its number, None outside
    layers."""

    name: str
    group: str
    shape: list[int]
    dtype_before: str
    dtype_after: str
    kind_before: str
    kind_after: str
    bytes_before: int
    bytes_after: int
    changed: bool
    role: Role = "other"
    layer: int | None = None


@dataclass(frozen=True, config=_LENIENT)
class Estimate(_Record):
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


class StepReport(Record):
    """A training step, predicted and measured; `problem` is a sentence on why one of them is missing."""

    predicted: Budget | None = None
    measured: BudgetReading | None = None
    error: float | None = None
    problem: str = ""


class Architecture(Record):
    """The modules of a model that hold tensors, in its own order."""

    rows: tuple[ModuleMemory, ...] = ()


class MemoryReport(Report):
    """One model at each stage of QLoRA. process: what the process took for each measured stage; step: None where none
    was asked for."""

    model: str
    parameters: int
    stages: tuple[MemoryStage, ...]
    process: tuple[ProcessReading, ...] = ()
    step: StepReport | None = None
    architecture: Architecture = Architecture()
    estimates: tuple[Estimate, ...] = ()


# --- what the page explains with: never part of a report, so plain dataclasses ---------------------------------------


@plain_dataclass(frozen=True)
class QuantizationError:
    """How far restored weights are from the original ones, in their unit."""

    mean_absolute: float
    root_mean_square: float
    largest: float


@plain_dataclass(frozen=True)
class StoredBytes:
    """A quantized matrix as it is stored, and the same matrix in FP16."""

    packed: int
    constants: int
    tables: int
    total: int
    fp16: int


@plain_dataclass(frozen=True)
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


@plain_dataclass(frozen=True)
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


@plain_dataclass(frozen=True)
class OptimizerState:
    """AdamW's two moments of `trained` parameters; of a run also its measured peak and what kind of memory that is."""

    trained: int
    state_bytes: int
    state_8bit_bytes: int
    peak_bytes: int | None = None
    peak_is: str = ""
