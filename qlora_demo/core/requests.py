"""Requests besides a training run: a model's memory, a file to classify, reviews to analyse; what all requests share.

Bounds live in the fields alone: the page's sliders, the command line and the HTTP interface read them from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import SettingsError
from .names import SAMPLE, Optimizer
from .records import Columns


@dataclass(frozen=True)
class Bounds:
    """The limits of one numeric field; `minimum_open` means the minimum itself is not allowed."""

    minimum: float | None = None
    maximum: float | None = None
    minimum_open: bool = False


class Settings(BaseModel):
    """Base of what a job is told to do: frozen, strict about names, all problems reported at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Settings from loose values (strings from a form or a file included).

        Raises SettingsError with one sentence for each wrong field.
        """
        try:
            return cls(**dict(fields))
        except ValidationError as error:
            problems: dict[str, str] = {}
            for item in error.errors():
                name = str(item["loc"][0]) if item["loc"] else "settings"
                problems.setdefault(name, _sentence(cls, name, item))
            raise SettingsError(problems) from None

    @classmethod
    def bounds(cls, name: str) -> Bounds:
        """The bounds of the field `name`, as its validation uses them."""
        rules = {
            kind: value
            for rule in cls.model_fields[name].metadata
            for kind in ("ge", "gt", "le")
            if (value := getattr(rule, kind, None)) is not None
        }
        return Bounds(rules.get("gt", rules.get("ge")), rules.get("le"), "gt" in rules)

    @classmethod
    def choices(cls, name: str) -> tuple[str, ...]:
        """The values that the field `name` may have, where they can be listed."""
        return tuple(value for value in get_args(cls.model_fields[name].annotation) if isinstance(value, str))

    def to_dict(self) -> dict[str, object]:
        return self.model_dump(mode="json")


def quoted(value: Any) -> str:
    """A value as an error quotes it: at most 60 characters."""
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."


def _sentence(settings: type[Settings], name: str, item: Any) -> str:
    """One sentence from one pydantic error: what, the value, what to do."""
    value, kind, context = item.get("input"), item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"There is no setting called {name!r}; remove it."
    known = name in settings.model_fields
    title = settings.model_fields[name].title if known else name
    limits = settings.bounds(name) if known else Bounds()
    if kind == "literal_error":
        return f"{title} is {quoted(value)}; choose one of {context['expected']}."
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        low = f"more than {limits.minimum:g}" if limits.minimum_open else f"from {limits.minimum:g}"
        return f"{title} is {quoted(value)}; give a number {low} up to {limits.maximum:g}."
    if kind == "string_too_short":
        return f"{title} is empty; give a value."
    if kind == "string_too_long":
        return f"{title} has {len(value)} characters; give at most {context['max_length']}."
    if kind.startswith(("int", "float", "finite", "bool")):
        wanted = {"i": "a whole number", "f": "a number", "b": "true or false"}[kind[0]]
        return f"{title} is {quoted(value)}; give {wanted}."
    if kind == "value_error":
        return f"{title} cannot be used: {context['error']}."
    return f"{title} is {quoted(value)}: {item['msg'].lower()}."


class MemoryRequest(Settings):
    """What a memory measurement is asked for."""

    model: str = Field("sample", min_length=1, max_length=400, title="Model")
    """`sample` (embedded), a Hub id, or a local folder."""
    revision: str = Field("", max_length=100, title="Model revision")
    """Commit, tag or branch on the Hub."""
    labels: int = Field(5, ge=1, le=1000, title="Number of classes")
    """Number of classes."""
    stages: tuple[Literal["fp32", "fp16", "int8", "nf4", "nf4-dq", "prepared", "lora"], ...] = Field(
        ("fp32", "fp16", "nf4", "nf4-dq", "prepared", "lora"), min_length=1, title="Stages"
    )
    """Steps of QLoRA to measure."""

    @field_validator("stages", mode="before")
    @classmethod
    def _read_stages(cls, value: Any) -> Any:
        """The command line gives names separated by commas."""
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    rank: int = Field(16, ge=1, le=256, title="LoRA rank r")
    """Rank of the adapters in stage lora."""
    targets: str = Field("all-linear", min_length=1, max_length=400, title="Target modules")
    """`all-linear`, or module names separated by commas."""
    random_weights: bool = Field(False, title="Random weights")
    """Use random weights: needs the configuration only, no download."""
    batch_size: int = Field(0, ge=0, le=1024, title="Batch size")
    """Reviews per training step, which is then measured too; 0 = the model alone."""
    length: int = Field(128, ge=8, le=8192, title="Tokens per review")
    """Length of each review in the step."""
    gradient_checkpointing: bool = Field(False, title="Gradient checkpointing")
    """Recompute activations in that step."""
    optimizer: Optimizer = Field("adamw_torch_fused", title="Optimizer")
    """AdamW of that step, in 32 or 8 bits."""


class ClassifyRequest(Settings):
    """What classifying a file of reviews is asked for."""

    file: str = Field(min_length=1, max_length=1000, title="File")
    """A .csv .tsv .json .jsonl or .parquet, also .gz or .zip."""
    adapter: str = Field("sample", min_length=1, max_length=400, title="Adapter")
    """`sample` (the shipped one), a run's id, or a local folder."""
    text_column: str = Field("", max_length=200, title="Text column")
    """Empty = detected by name, else by its content."""
    title_column: str = Field("", max_length=200, title="Title column")
    """Joined before the text; empty = detected, - = none."""
    label_column: str = Field("", max_length=200, title="Label column")
    """The true labels, to evaluate the adapter; empty = detected, - = none."""
    encoding: str = Field("", max_length=40, title="Encoding")
    """Such as utf-8, utf-16 or cp1252; empty = detected."""
    delimiter: str = Field("", max_length=20, title="Delimiter")
    """Between a text file's columns: , ; | or tab; empty = detected."""
    header: bool | None = Field(None, title="Header")
    """Whether the first row names the columns; empty = detected."""
    base: bool = Field(False, title="Untrained")
    """By the same network as it was before training."""
    calibrated: bool = Field(False, title="Calibrated")
    """Logits divided by the temperature that the adapter's run fitted, where it fitted one."""

    def columns(self) -> Columns:
        """How the file is to be read."""
        return Columns(
            text=self.text_column,
            title=self.title_column,
            label=self.label_column,
            encoding=self.encoding,
            delimiter=self.delimiter,
            header=self.header,
        )


class MergeRequest(Settings):
    """Which adapter is merged with its base, into a zip of that name."""

    adapter: str = Field("sample", min_length=1, max_length=400, title="Adapter")
    """`sample` (the shipped one), a run's id, or a local folder."""
    name: str = Field("merged.zip", pattern="^[\\w.-]+\\.zip$", max_length=120, title="Name")
    """Of the zip."""


@dataclass(frozen=True)
class DataRequest(Columns):
    """Which reviews, and how they are to be read.

    data: `sample`, a name on the Hub where `hub` is true, else the path of a file. split: one of the data set's, "" =
    all."""

    data: str = SAMPLE
    hub: bool = False
    config: str = ""
    revision: str = ""
    split: str = ""
