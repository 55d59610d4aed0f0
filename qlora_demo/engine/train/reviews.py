"""The reviews of a run, as its settings name them, and what is refused or worth a notice before anything is trained."""

from __future__ import annotations

from pathlib import Path

from ...core.cancellation import ShouldStop
from ...core.config import RunConfig
from ...core.errors import TrainingError
from ...core.records import Notice, Phase
from ..data import dataset
from .context import Emit

EVALUATED = ("validation", "test")


def load_data(config: RunConfig, emit: Emit, should_stop: ShouldStop) -> dataset.DataSet:
    """The reviews of a run in three splits, the training split in the order of the training. Raises DemoErrors."""
    emit(Phase("loading the reviews", Path(config.data).name if Path(config.data).is_absolute() else config.data))
    columns = dataset.Columns(
        text=config.text_column,
        title=config.title_column,
        label=config.label_column,
        encoding=config.encoding,
        delimiter=config.delimiter,
        header={"yes": True, "no": False}.get(config.header),
        labels=config.labels,
        mend=config.mend,
    )
    data = dataset.load(
        config.data,
        config=config.data_config,
        revision=config.data_revision,
        columns=columns,
        rows=config.rows,
        seed=config.seed,
        on_progress=lambda text, done: emit(Phase("fetching the reviews", text, done)),
        should_stop=should_stop,
    )
    train = data.splits["train"]
    if len(set(train.labels)) < 2:
        raise TrainingError(
            f"The training reviews have {len(set(train.labels))} different labels; give reviews of at least two."
        )
    for split in EVALUATED:
        if not len(data.splits[split]):
            raise TrainingError(
                f"There are no {split} reviews ({len(train)} for training); give at least 30 reviews, some of each"
                " label."
            )
    notes = [*data.notes, *(f"{rows:,} rows were left out: {reason}." for reason, rows in data.skipped.items())]
    if len(train) < config.batch_size:
        notes.append(
            f"There are {len(train)} training reviews, fewer than one batch of {config.batch_size}: every step sees"
            " all of them."
        )
    for note in notes:
        emit(Notice(note))
    return data
