"""Reviews from the sample, the Hub, a file or a folder: read, split and shuffled.

Knows neither models nor tokenizers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.errors import DataError
from ...core.paths import DATA_FILES, is_data_file
from ..models.hubfiles import OnProgress, ShouldStop
from .assembly import assemble
from .columns import ALL_FOUND, Columns, LabelValues, Places, find_places, gather, open_as
from .hub import AMAZON, read_hub
from .reading.tables import Rows, Table
from .reviews import NO_REVIEWS, SPLITS, DataSet, Reviews
from .sample import SAMPLE_LABELS, SAMPLES, open_sample
from .splitting import divide, stratified


@dataclass(frozen=True)
class _Source:
    """Opened tables by split; a single file is the split "all". label_names: in place of the labels of the rows."""

    name: str
    tables: dict[str, Table] | dict[str, Rows] | dict[str, Table | Rows]
    label_names: tuple[str, ...] = ()
    revision: str = ""
    notes: tuple[str, ...] = ()


def load(
    data: str,
    *,
    config: str = "",
    revision: str = "",
    columns: Columns = ALL_FOUND,
    rows: int = 0,
    seed: int = 42,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> DataSet:
    """The reviews of `data` in three splits, the training split shuffled and (with `rows`) cut to a stratified subset.

    A file without splits is divided 80 / 10 / 10 by class; identical texts stay in one split. Raises DataError,
    HubError, or DownloadStopped once `should_stop()` is true."""
    full = _read(_open(data, config, revision, columns, on_progress, should_stop), columns)
    if "all" in full.splits:
        whole = full.splits["all"]
        full = replace(full, splits={name: whole.take(order) for name, order in _divide(full, seed).items()})
    train = full.splits["train"]
    order = stratified(train.labels, rows, seed) if rows else random.Random(seed).sample(range(len(train)), len(train))
    return _in_splits(full, train=train.take(order), **{name: full.splits[name].listed() for name in SPLITS[1:]})


def load_rows(
    data: str, *, config: str = "", revision: str = "", split: str = "", columns: Columns = ALL_FOUND
) -> DataSet:
    """The reviews of `data` to be evaluated on, as split "test": all rows of a file, else `split` (test if empty)."""
    source = _open(data, config, revision, columns) if _is_file(data) else None
    if source is None and split and split not in SPLITS:
        raise DataError(f"There is no split {split!r}; choose train, validation or test.")
    full = _read(source or _open(data, config, revision, columns), columns)
    return _in_splits(full, test=full.splits["all" if source else split or "test"].listed())


def read_all(
    data: str,
    *,
    config: str = "",
    revision: str = "",
    columns: Columns = ALL_FOUND,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> DataSet:
    """All reviews of `data` for a report, in the order of their rows: a file as one split "all", else its splits.

    Without a label column the data set has no labels, and every review the index -1. `on_progress` and `should_stop`:
    of a download. Raises DataError, HubError, DownloadStopped."""
    return _read(_open(data, config, revision, columns, on_progress, should_stop), columns, need_label=False)


def training_labels(data: DataSet, seed: int = 42) -> list[int]:
    """The labels of the reviews that `load` would train on, of a data set of `read_all`."""
    if "train" in data.splits:
        return data.splits["train"].labels
    return [data.splits["all"].labels[i] for i in _divide(data, seed)["train"]]


def is_on_hub(data: str) -> bool:
    """Whether `data` is neither the sample nor a file or folder of this machine. Raises DataError for a file that is
    not there.
    """
    return data not in SAMPLES and not _is_file(data) and not Path(data).is_dir()


def align_labels(data: DataSet, names: Sequence[str]) -> Reviews:
    """The test reviews of `data` with labels as indices into `names` (an adapter's labels).

    Equal names match by name; two star scales of one length match by order. Raises DataError otherwise.
    """
    test = data.splits["test"]
    if set(data.labels) <= set(names):
        index = [list(names).index(label) for label in data.labels]
        return Reviews(test.texts, [index[label] for label in test.labels])
    if data.ordinal and len(data.labels) == len(names):
        return test
    raise DataError(
        f"The reviews are labelled {', '.join(data.labels)}, the adapter knows {', '.join(names)}; choose reviews with"
        " its labels."
    )


def _in_splits(data: DataSet, **splits: Reviews) -> DataSet:
    return replace(data, splits={name: splits.get(name, NO_REVIEWS) for name in SPLITS})


def _divide(data: DataSet, seed: int) -> dict[str, list[int]]:
    whole = data.splits["all"]
    assert whole.keys is not None, "as read from a file"
    return divide(whole.labels, whole.keys, data.labels, seed)


def _is_file(data: str) -> bool:
    path = Path(data)
    if data in SAMPLES or path.is_dir():
        return False
    if is_data_file(data) and not path.is_file():
        raise DataError(f"There is no file {data}; check the path.")
    return path.is_file()


def _open(
    data: str,
    config: str,
    revision: str,
    columns: Columns,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> _Source:
    path = Path(data)
    if data in SAMPLES:
        return _Source(data, open_sample(data), SAMPLE_LABELS, revision)
    if _is_file(data):
        return _Source(path.name, {"all": open_as(path, columns)})
    if path.is_dir():
        files = {split: _file_of(path, split) for split in SPLITS}
        return _Source(path.name, {split: open_as(files[split], columns) for split in SPLITS}, revision=revision)
    name, revision, rows = read_hub(data, config, revision, on_progress=on_progress, should_stop=should_stop)
    fallback = data == "amazon-reviews" and name != AMAZON
    notes = (f"The Hub did not give {AMAZON}; the reviews come from {name}.",) if fallback else ()
    return _Source(name, {split: Rows(name, rows.pop(split)) for split in SPLITS}, revision=revision, notes=notes)


def _file_of(folder: Path, split: str) -> Path:
    files = [folder / f"{split}{suffix}" for suffix in DATA_FILES if (folder / f"{split}{suffix}").is_file()]
    if not files:
        raise DataError(
            f"The folder {folder} has no {split} file; give {', '.join(SPLITS)} as .jsonl, .csv or .parquet."
        )
    return files[0]


def _read(source: _Source, columns: Columns, need_label: bool = True) -> DataSet:
    tables = list(source.tables.values())
    places, values = find_places(tables[0], columns, need_label), LabelValues()
    gathered = {}
    for split, table in source.tables.items():
        _refuse_other_columns(table, places)
        gathered[split] = gather(table, places, values, fix=columns.mend)
    data = assemble(source.name, gathered, tables, places, values, columns.labels, source.label_names)
    return replace(data, revision=source.revision, notes=(*source.notes, *data.notes))


def _refuse_other_columns(table: Table | Rows, places: Places) -> None:
    """A split may be empty; one with other columns than the first is no part of the same data."""
    for name in (places.text, places.title, places.label):
        if name and table.columns and name not in table.columns:
            columns = ", ".join(map(str, table.columns))[:300]
            raise DataError(f"{table.name} has no column {name!r}; its columns are {columns}.")
