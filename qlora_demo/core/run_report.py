"""report.json of a training run: how good the adapter is, what training took, and what it was made from.

Losses are nats, sizes bytes, times seconds. Fields with a default were added later, or are told by some runs only."""

from __future__ import annotations

from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from .config import RunConfig
from .memory_report import Budget, MemoryStage
from .report import Record, Report


class ReliabilityBin(Record):
    """Reviews whose confidence, the likeliest label's probability, lies in (lower, upper]; both means over them."""

    lower: float
    upper: float
    rows: int
    confidence: float
    accuracy: float


class Reliability(Record):
    """How far probabilities can be believed. ece: expected calibration error (Guo et al. 2017); no empty bins."""

    ece: float
    bins: tuple[ReliabilityBin, ...] = ()


class Metrics(Record):
    """A classifier evaluated on `rows` reviews. `confusion[true][predicted]` counts, labels in order.

    mae_stars, within_one and quadratic_kappa are None where labels are not ordinal. intervals: 95 % by bootstrap, of
    each metric that has one."""

    rows: int
    loss: float
    accuracy: float
    macro_f1: float
    mae_stars: float | None = None
    within_one: float | None = None
    quadratic_kappa: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    labels: tuple[str, ...] = ()
    seconds: float = 0.0
    intervals: dict[str, tuple[float, float]] = Field({})
    calibration: Reliability | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        intervals = fields.get("intervals") or fields.get("interval_95") or {}
        return {**fields, "intervals": intervals, "calibration": fields.get("calibration") or None}


class Calibration(Record):
    """A temperature fitted on validation reviews, and what it does to the test reviews, which it never saw."""

    temperature: float
    split: str = "validation"
    ece_before: float
    ece_after: float
    loss_before: float
    loss_after: float
    bins_after: tuple[ReliabilityBin, ...] = ()


class RunMemory(Record):
    """The model as it is trained, and the peak of the steps, measured beside predicted.

    peak_is: "resident", or "allocated on the GPU". standing_bytes: before step 1. error: of the prediction, as a share.
    at_step: the step of the peak."""

    model: MemoryStage | None = None
    peak_bytes: int = 0
    peak_is: str = "resident"
    predicted_peak_bytes: int | None = None
    standing_bytes: int = 0
    error: float | None = None
    at_step: int | None = None
    budget: Budget | None = None

    @field_serializer("model", "budget")
    def _with_sums(self, part: MemoryStage | Budget | None) -> dict[str, object] | None:
        return part.to_dict() if part else None


class Energy(Record):
    """Of the whole GPU over `seconds`, whoever used it. share: of the training time that could be measured."""

    joules: float
    seconds: float
    source: str
    share: float = 1.0


class Parameters(Record):
    """How many there are."""

    trainable: int
    all: int


class ReloadProof(Record):
    """The largest logit differences between the adapter as saved and as a fresh process loads it."""

    max_logit_difference: float
    max_base_logit_difference: float | None = None
    texts: int = 0


class Training(Record):
    """The steps. loss: the last one logged. best_step: of the checkpoint that was kept. resumed_at: None = never."""

    steps: int
    seconds: float
    loss: float | None = None
    reviews_per_second: float = 0.0
    best_step: int | None = None
    resumed_at: int | None = None
    ended_early: bool = False


class Environment(Record):
    """Where a run ran; no names, paths or variables of the machine."""

    device: str = ""
    device_name: str = ""
    compute_dtype: str = "bfloat16"
    reason: str = ""
    threads: int | None = None
    python: str = ""
    platform: str = ""
    versions: dict[str, str] = Field({})


class DataSummary(Record):
    """The reviews of a run, never their texts: counts by split, and SHA-256 over texts and labels in order.

    skipped: rows left out, by reason. balance: by split, reviews of each label."""

    name: str
    revision: str = ""
    labels: tuple[str, ...] = ()
    ordinal: bool = True
    label_rule: str = ""
    skipped: dict[str, int] = Field({})
    notes: tuple[str, ...] = ()
    rows: dict[str, int] = Field({})
    balance: dict[str, tuple[int, ...]] = Field({})
    sha256: str = ""
    test_sha256: str = ""


class RunReport(Report):
    """All that is kept of a run.

    base: the same network with an untrained head; start: the adapter it started from, where it did; final: by split.
    kept: which checkpoint the adapter is. measured: what the adapter was evaluated on afterwards, by data and model."""

    model_config = ConfigDict(populate_by_name=True)

    base: Metrics
    start: Metrics | None = None
    final: dict[str, Metrics]
    calibration: Calibration | None = None
    baselines: dict[str, Metrics] = Field({})
    memory: RunMemory = RunMemory()
    energy: Energy | None = None
    parameters: Parameters | None = None
    reload: ReloadProof | None = None
    training: Training | None = None
    environment: Environment = Environment()
    data: DataSummary
    config: RunConfig
    seconds: float = 0.0
    stopped: bool = False
    kept: str = ""
    warnings: tuple[str, ...] = Field((), alias="doubts")
    measured: dict[str, dict[str, Metrics]] = Field({})

    @field_validator("config", mode="before")
    @classmethod
    def _without_unknown_settings(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: setting for name, setting in value.items() if name in RunConfig.model_fields}

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        fields: dict[str, object] = handler(self)
        return {name: value for name, value in fields.items() if value or name not in ("start", "measured")}
