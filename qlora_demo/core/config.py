"""RunConfig: every setting of a training run with its unit, bounds and help.

Knows neither torch nor gradio, and does not touch disk or network.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from .errors import SettingsError
from .names import Optimizer, Precision
from .requests import Settings, quoted

MOST_PINNED, LONGEST_PINNED = 5, 1000


class RunConfig(Settings):
    """The settings of one training run."""

    model: str = Field("sample", min_length=1, max_length=400, title="Model")
    """`sample` (embedded), a Hub id such as openai-community/gpt2, or a local folder."""
    revision: str = Field("", max_length=100, title="Model revision")
    """Commit, tag or branch on the Hub; empty = the default branch."""
    data: str = Field("sample", min_length=1, max_length=400, title="Reviews")
    """`sample`, `amazon-reviews`, a Hub data set, or a file (.csv .tsv .json .jsonl .parquet)."""
    data_config: str = Field("", max_length=100, title="Data configuration")
    """A Hub data set's configuration."""
    data_revision: str = Field("", max_length=100, title="Data revision")
    """A Hub data set's commit, tag or branch."""
    text_column: str = Field("", max_length=200, title="Text column")
    """Empty = detected by name."""
    title_column: str = Field("", max_length=200, title="Title column")
    """Joined before the text. Empty = detected by name; - = none."""
    label_column: str = Field("", max_length=200, title="Label column")
    """Empty = detected by name."""
    encoding: str = Field("", max_length=40, title="Encoding")
    """Of a file, such as utf-8 or cp1252; empty = detected."""
    delimiter: str = Field("", max_length=20, title="Delimiter")
    """Between a file's columns: , ; | or tab; empty = detected."""
    header: Literal["found", "yes", "no"] = Field("found", title="Header")
    """Whether a file's first row names its columns."""
    labels: tuple[str, ...] = Field((), title="Labels")
    """In order, one a line or with commas between; rows with others are left out. Empty = detected."""
    mend: bool = Field(False, title="Fix encoding errors")
    """Restores HTML entities and letters of a wrong encoding (&amp;#39; and Ã©)."""
    rows: int = Field(0, ge=0, le=10_000_000, title="Training reviews")
    """How many reviews to train on, shuffled and balanced as the whole; 0 = all. Fewer is faster, and over-fits
    sooner."""
    precision: Precision = Field("nf4-dq", title="Precision")
    """How the frozen base is held: nf4-dq is QLoRA; fp16 and fp32 are plain LoRA. Try fp32 when the loss becomes
    NaN."""
    rank: int = Field(16, ge=1, le=256, title="LoRA rank r")
    """Width of the two small matrices. More learns finer detail and costs memory; try 8 to 32."""
    alpha: float = Field(32, gt=0, le=1024, title="LoRA alpha")
    """The update is scaled by alpha / rank; twice the rank is a good start. Lower it when the loss jumps."""
    dropout: float = Field(0, ge=0, le=0.9, title="LoRA dropout")
    """Share of inputs to the adapter set to zero in training; try 0.05 to 0.1 when over-fitting."""
    targets: str = Field("all-linear", min_length=1, max_length=400, title="Target modules")
    """`all-linear`, or module names separated by commas (query,value). Fewer save memory; more learn more."""
    learning_rate: float = Field(0.001, gt=0, le=0.1, title="Learning rate")
    """Size of a step. LoRA likes 1e-4 to 1e-3; lower it when the loss jumps, raise it when the loss hardly falls."""
    batch_size: int = Field(32, ge=1, le=1024, title="Batch size")
    """Reviews per device and step. Halve it when memory runs out."""
    accumulation: int = Field(1, ge=1, le=256, title="Gradient accumulation")
    """Batches added up before each step: the same result as a larger batch, in less memory."""
    epochs: float = Field(2, gt=0, le=100, title="Epochs")
    """Passes over the training reviews. More while the validation loss still falls; fewer once it rises."""
    max_steps: int = Field(0, ge=0, le=1_000_000, title="Maximum steps")
    """Ends the run after this many steps; 0 = by epochs."""
    max_length: int = Field(128, ge=8, le=8192, title="Maximum length")
    """Tokens kept of a review; what is longer is cut. Halve it when memory runs out, unless most reviews are
    longer."""
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", title="Schedule")
    """How the learning rate falls after warm-up. constant tells most when you try learning rates; cosine ends best."""
    warmup: float = Field(0.1, ge=0, le=0.5, title="Warm-up")
    """Share of the steps in which the learning rate rises. More of it when the loss jumps in the first steps."""
    weight_decay: float = Field(0.01, ge=0, le=1, title="Weight decay")
    """Pulls trained weights towards zero. Try 0.1 when over-fitting, 0 when the loss hardly falls."""
    label_smoothing: float = Field(0, ge=0, le=0.5, title="Label smoothing")
    """Share of the target given to the neighbouring stars (to all other labels where they are no stars). Try 0.1 when
    the network is too sure of what it gets wrong."""
    gradient_checkpointing: bool = Field(False, title="Gradient checkpointing")
    """Recomputes activations: less memory, about a third slower. Tick it when memory runs out at a batch of 1."""
    optimizer: Optimizer = Field("adamw_torch_fused", title="Optimizer")
    """With LoRA's few parameters the paged and 8-bit ones save next to nothing. adamw_torch_fused when in doubt."""
    evaluations: int = Field(4, ge=1, le=1000, title="Evaluations")
    """How often the validation reviews are scored during a run. More find the best checkpoint; fewer cost less
    time."""
    log_every: int = Field(5, ge=1, le=1000, title="Log every")
    """Steps between two points of the loss curve. 1 shows where a loss jumps; more is calmer."""
    best_metric: Literal["accuracy", "macro_f1", "mae_stars", "loss"] = Field("accuracy", title="Best checkpoint by")
    """Validation metric that decides which checkpoint is kept. mae_stars for stars; macro_f1 when labels are
    uneven."""
    patience: int = Field(0, ge=0, le=1000, title="Patience")
    """Stop after this many evaluations without improvement; 0 = never. Try 3 with many evaluations."""
    class_weights: Literal["none", "balanced"] = Field("none", title="Class weights")
    """balanced: rare labels count more, so that the loss is not the most common label's. For uneven reviews."""
    start_from: str = Field("", max_length=400, title="Start from adapter")
    """A run, a folder or `sample`: its weights are trained on. Empty = fresh ones. Model, rank and targets must be its
    own."""
    pinned: tuple[str, ...] = Field(
        (
            "I love this product",
            "Broke after two days, a waste of money.",
            "Great sound, but the battery barely lasts an afternoon.",
        ),
        title="Pinned reviews",
    )
    """Scored at every evaluation, and drawn as they move: one a line, at most five."""
    seed: int = Field(42, ge=0, le=2**32 - 1, title="Seed")
    """Fixes the head's start, the order of reviews and dropout. Try three: what one seed gains may be luck."""

    @field_validator("labels", mode="before")
    @classmethod
    def _read_labels(cls, value: Any) -> Any:
        lines = value.split(",") if isinstance(value, str) and "\n" not in value.strip() else value
        return _read_lines(lines)

    @field_validator("pinned", mode="before")
    @classmethod
    def _read_pinned(cls, value: Any) -> Any:
        reviews = _read_lines(value)
        if len(reviews) > MOST_PINNED:
            raise ValueError(f"there are {len(reviews)} of them; give at most {MOST_PINNED}")
        if (longest := max(map(len, reviews), default=0)) > LONGEST_PINNED:
            raise ValueError(f"one has {longest:,} characters; give at most {LONGEST_PINNED:,}")
        return reviews


def _read_lines(value: Any) -> tuple[str, ...]:
    """A form and the command line give lines; a file may give a list. Raises ValueError."""
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str | int) for line in lines):
        raise ValueError("give text, one a line")
    return tuple(str(line).strip() for line in lines if str(line).strip())


def refuse_changes(asked: RunConfig, had: RunConfig) -> None:
    """Raises SettingsError with each setting of `asked` that is not as in `had`: a run is resumed with its own."""
    new, old = asked.to_dict(), had.to_dict()
    changes = {
        name: f"{RunConfig.model_fields[name].title} is {quoted(new[name])}, but the run has {quoted(old[name])}."
        for name in new
        if new[name] != old[name]
    }
    if changes:
        raise SettingsError(changes)
