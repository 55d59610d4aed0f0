"""Requests besides a training run: a model's memory, a file to classify, reviews to analyse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from .config import Optimizer
from .names import SAMPLE
from .records import Columns
from .settings import Settings


class MemoryRequest(Settings):
    """What a memory measurement is asked for."""

    model: str = Field(
        "sample",
        min_length=1,
        max_length=400,
        title="Model",
        description="`sample` (embedded), a Hub id, or a local folder.",
    )
    revision: str = Field("", max_length=100, title="Model revision", description="Commit, tag or branch on the Hub.")
    labels: int = Field(5, ge=1, le=1000, title="Labels", description="Number of classes.")
    stages: tuple[Literal["fp32", "fp16", "int8", "nf4", "nf4-dq", "prepared", "lora"], ...] = Field(
        ("fp32", "fp16", "nf4", "nf4-dq", "prepared", "lora"),
        min_length=1,
        title="Stages",
        description="Steps of QLoRA to measure.",
    )
    rank: int = Field(16, ge=1, le=256, title="LoRA rank r", description="Rank of the adapters in stage lora.")
    targets: str = Field(
        "all-linear",
        min_length=1,
        max_length=400,
        title="Target modules",
        description="`all-linear`, or module names separated by commas.",
    )
    random_weights: bool = Field(
        False, title="Random weights", description="Use random weights: needs the configuration only, no download."
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=1024,
        title="Batch size",
        description="Reviews per training step, which is then measured too; 0 = the model alone.",
    )
    length: int = Field(128, ge=8, le=8192, title="Tokens per review", description="Length of each review in the step.")
    gradient_checkpointing: bool = Field(
        False, title="Gradient checkpointing", description="Recompute activations in that step."
    )
    optimizer: Optimizer = Field(
        "adamw_torch_fused", title="Optimizer", description="AdamW of that step, in 32 or 8 bits."
    )


class ClassifyRequest(Settings):
    """What classifying a file of reviews is asked for."""

    file: str = Field(
        min_length=1,
        max_length=1000,
        title="File",
        description="A .csv .tsv .json .jsonl or .parquet, also .gz or .zip.",
    )
    adapter: str = Field(
        "sample",
        min_length=1,
        max_length=400,
        title="Adapter",
        description="`sample` (the shipped one), a run's id, or a local folder.",
    )
    text_column: str = Field(
        "", max_length=200, title="Text column", description="Empty = found by name, else by what it holds."
    )
    title_column: str = Field(
        "", max_length=200, title="Title column", description="Joined before the text; empty = found, - = none."
    )
    label_column: str = Field(
        "",
        max_length=200,
        title="Label column",
        description="The true labels, to evaluate the adapter; empty = found, - = none.",
    )
    encoding: str = Field(
        "", max_length=40, title="Encoding", description="Such as utf-8, utf-16 or cp1252; empty = found."
    )
    delimiter: str = Field(
        "", max_length=20, title="Delimiter", description="Between a text file's columns: , ; | or tab; empty = found."
    )
    header: bool | None = Field(
        None, title="Header", description="Whether the first row names the columns; empty = found."
    )
    base: bool = Field(False, title="Untrained", description="By the same network as it was before training.")
    calibrated: bool = Field(
        False,
        title="Calibrated",
        description="Logits divided by the temperature that the adapter's run fitted, where it fitted one.",
    )

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

    adapter: str = Field(
        "sample",
        min_length=1,
        max_length=400,
        title="Adapter",
        description="`sample` (the shipped one), a run's id, or a local folder.",
    )
    name: str = Field("merged.zip", pattern=r"^[\w.-]+\.zip$", max_length=120, title="Name", description="Of the zip.")


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
