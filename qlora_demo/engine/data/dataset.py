"""Reviews from the sample, the Hub or a file: read, split, shuffled and counted.

Knows neither models nor tokenizers. A label is an index 0..k-1 everywhere inside the engine; `labels` holds the names.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.paths import ASSETS, DATA_FILES, is_data_file
from ..models.hubfiles import OnProgress, ShouldStop
from .columns import ALL_FOUND, Columns, Gathered, LabelValues, Places, find_places, gather, nothing_in, open_as
from .hub import AMAZON, SPLITS, read_hub
from .labels import Scale, find_scale
from .reading.chunks import Tally
from .reading.tables import Rows, Table, open_table
from .splitting import divide, stratified

SAMPLE_LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
_SAMPLES = ("sample", "sample-mix")
_SHOWN_VALUES = 5  # values outside a scale that are named one by one


@dataclass(frozen=True)
class Reviews:
    """Texts and their labels (indices), side by side. Those of `read_all` are packed: they read like a list."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def listed(self) -> Reviews:
        return Reviews(list(self.texts), self.labels)

    def take(self, order: Sequence[int]) -> Reviews:
        return Reviews([self.texts[i] for i in order], [self.labels[i] for i in order])


@dataclass(frozen=True)
class Origin:
    """How the rows were read: the columns found, the way the file is written (None where that means nothing), the rule
    of the labels.

    rows: all of them, also those left out. first_lines: by reason, where rows were left out (row numbers where there
    are no lines)."""

    rows: int = 0
    text_column: str = ""
    title_column: str = ""
    label_column: str = ""
    columns: tuple[str, ...] = ()
    label_rule: str = ""
    kind: str = ""
    packing: str = ""
    encoding: str | None = None
    encoding_guessed: bool = False
    delimiter: str | None = None
    header: bool | None = None
    first_lines: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Three splits. `ordinal`: the labels are stars in rising order. `skipped` counts rows left out, by reason.

    revision: the commit (tag, branch) asked of the Hub, "" where none was.
    """

    name: str
    labels: tuple[str, ...]
    ordinal: bool
    splits: dict[str, Reviews]
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    revision: str = ""
    origin: Origin = Origin()

    def only(self, split: str) -> DataSet:
        """The same with this split alone; "" = all of them. Raises DataError."""
        if not split:
            return self
        if split not in self.splits:
            raise DataError(f"There is no split {split[:40]!r}; the splits are {', '.join(self.splits)}.")
        return replace(self, splits={split: self.splits[split]})

    def describe(self) -> dict[str, Any]:
        """What a report keeps: counts and a SHA-256 over all texts and labels in order, and over the test's alone;
        never the texts.
        """
        digest, of_test = hashlib.sha256(), hashlib.sha256()
        for name in SPLITS:
            for text, label in zip(self.splits[name].texts, self.splits[name].labels, strict=True):
                line = f"{name}\0{label}\0{text}\n".encode()
                digest.update(line)
                if name == "test":
                    of_test.update(line)
        return {
            "name": self.name,
            "revision": self.revision,
            "labels": list(self.labels),
            "ordinal": self.ordinal,
            "label_rule": self.origin.label_rule,
            "skipped": self.skipped,
            "notes": list(self.notes),
            "rows": {name: len(self.splits[name]) for name in SPLITS},
            "balance": {
                name: [Counter(self.splits[name].labels)[i] for i in range(len(self.labels))] for name in SPLITS
            },
            "sha256": digest.hexdigest(),
            "test_sha256": of_test.hexdigest(),
        }


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
    if data not in _SAMPLES and _is_file(data):
        full = _divided(Path(data), columns, seed)
    else:
        full = _read_splits(data, config, revision, columns, on_progress=on_progress, should_stop=should_stop)
    train = full.splits["train"]
    order = stratified(train.labels, rows, seed) if rows else random.Random(seed).sample(range(len(train)), len(train))
    return replace(
        full, splits={"train": train.take(order), **{name: full.splits[name].listed() for name in SPLITS[1:]}}
    )


def _mixed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the shipped adapter learns from: all plain reviews, every third subtle one, and plain ones joined in pairs
    of equal stars.

    Chosen on real reviews (validation), which are longer and less of one piece than the sample's: sarcasm written for
    the sample teaches the sample more than it teaches reality, and joined reviews, three for ten others, teach both
    (benchmarks/sample_adapter.md)."""
    subtle = [i for i, row in enumerate(rows) if row["style"] == "subtle"]
    left_out = {i for n, i in enumerate(subtle) if n % 3}
    kept = [row for i, row in enumerate(rows) if i not in left_out]
    plain: dict[int, list[dict[str, Any]]] = {}
    for row in kept:
        if row["style"] == "plain":
            plain.setdefault(row["label"], []).append(row)
    choose = random.Random(7)  # one mix for all seeds, so that seeds compare
    joined = []
    for _ in range(3 * len(kept) // 10):
        first, second = choose.sample(plain[choose.choice(list(plain))], 2)
        joined.append({**first, "text": f"{first['text']} {second['text']}"})
    return kept + joined


def load_rows(
    data: str, *, config: str = "", revision: str = "", split: str = "", columns: Columns = ALL_FOUND
) -> DataSet:
    """The reviews of `data` to be judged, as split "test": all rows of a file, else `split` (test if empty)."""
    if data not in _SAMPLES and _is_file(data):
        whole, _ = _read_whole(Path(data), columns)
        return replace(
            whole,
            splits={"train": Reviews([], []), "validation": Reviews([], []), "test": whole.splits["all"].listed()},
        )
    wanted = split or "test"
    if wanted not in SPLITS:
        raise DataError(f"There is no split {wanted!r}; choose train, validation or test.")
    full = _read_splits(data, config, revision, columns)
    empty = Reviews([], [])
    return replace(full, splits={"train": empty, "validation": empty, "test": full.splits[wanted].listed()})


def read_all(
    data: str,
    *,
    config: str = "",
    revision: str = "",
    columns: Columns = ALL_FOUND,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> DataSet:
    """All reviews of `data` for a report, in the order of their rows: a file as one split "all", else the splits that
    there are.

    Without a label column the data set has no labels, and every review the index -1. `on_progress` and `should_stop`:
    of a download. Raises DataError, HubError, DownloadStopped."""
    if data not in _SAMPLES and _is_file(data):
        return _read_whole(Path(data), columns, need_label=False)[0]
    return _read_splits(
        data, config, revision, columns, need_label=False, on_progress=on_progress, should_stop=should_stop
    )


def is_on_hub(data: str) -> bool:
    """Whether `data` is neither the sample nor a file or folder of this machine. Raises DataError for a file that is
    not there.
    """
    return data not in _SAMPLES and not _is_file(data) and not Path(data).is_dir()


def align_labels(found: DataSet, names: Sequence[str]) -> Reviews:
    """The test reviews of `found` with labels as indices into `names` (an adapter's labels).

    Equal names match by name; two star scales of one length match by order. Raises DataError otherwise.
    """
    test = found.splits["test"]
    if set(found.labels) <= set(names):
        index = [list(names).index(label) for label in found.labels]
        return Reviews(test.texts, [index[label] for label in test.labels])
    if found.ordinal and len(found.labels) == len(names):
        return test
    raise DataError(
        f"The reviews are labelled {', '.join(found.labels)}, the adapter knows {', '.join(names)}; choose reviews with"
        " its labels."
    )


def _is_file(data: str) -> bool:
    path = Path(data)
    if path.is_file():
        return True
    if is_data_file(data) and not path.is_dir():
        raise DataError(f"There is no file {data}; check the path.")
    return False


def _read_whole(path: Path, columns: Columns, need_label: bool = True) -> tuple[DataSet, NDArray[np.int64]]:
    """(one file as the split "all", a key for each of its reviews that is equal where their texts are, whatever their
    titles).
    """
    table = open_as(path, columns)
    places, values = find_places(table, columns, need_label), LabelValues()
    found = gather(table, places, values, mend=columns.mend)
    data, kept = _build(path.name, {"all": found}, [table], places, values, columns)
    keys = found.keys()
    return data, keys if kept["all"] is None else keys[kept["all"]]


def _divided(path: Path, columns: Columns, seed: int) -> DataSet:
    whole, keys = _read_whole(path, columns)
    reviews = whole.splits["all"]
    return replace(
        whole,
        splits={name: reviews.take(order) for name, order in divide(reviews.labels, keys, whole.labels, seed).items()},
    )


def _read_splits(
    data: str,
    config: str,
    revision: str,
    columns: Columns,
    *,
    need_label: bool = True,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> DataSet:
    """What comes in splits: the sample, a folder of files, the Hub's."""
    name, at, names, notes = data, revision, None, ()
    tables: dict[str, Table | Rows]
    if data in _SAMPLES:
        names = SAMPLE_LABELS
        tables = {split: open_table(ASSETS / "sample_reviews" / f"{split}.jsonl") for split in SPLITS}
        if data == "sample-mix":
            tables["train"] = Rows(data, _mixed(_as_dicts(tables["train"])))
    elif Path(data).is_dir():
        name, tables = Path(data).name, {split: open_as(path, columns) for split, path in _files_of(Path(data)).items()}
    else:
        name, at, rows = read_hub(data, config, revision, on_progress=on_progress, should_stop=should_stop)
        tables = {split: Rows(name, rows.pop(split)) for split in list(rows)}
        if data == "amazon-reviews" and name != AMAZON:
            notes = (f"The Hub did not give {AMAZON}; the reviews come from {name}.",)  # type: ignore[assignment]
    places, values = find_places(next(iter(tables.values())), columns, need_label), LabelValues()
    found = {}
    for split in SPLITS:
        _refuse_other_columns(tables[split], places)
        found[split] = gather(tables[split], places, values, mend=columns.mend)
    full, _ = _build(name, found, list(tables.values()), places, values, columns, names)
    return replace(full, revision=at, notes=(*notes, *full.notes))


def _refuse_other_columns(table: Table | Rows, places: Places) -> None:
    """A split may be empty; one with other columns than the first is no part of the same data."""
    missing = [
        name
        for name in (places.text, places.title, places.label)
        if name and table.columns and name not in table.columns
    ]
    if missing:
        raise DataError(
            f"{table.name} has no column {missing[0]!r}; its columns are {', '.join(map(str, table.columns))[:300]}."
        )


def _as_dicts(table: Table | Rows) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for chunk in table.chunks() for row in chunk.rows]


def _files_of(folder: Path) -> dict[str, Path]:
    found = {}
    for name in SPLITS:
        files = [folder / f"{name}{suffix}" for suffix in DATA_FILES if (folder / f"{name}{suffix}").is_file()]
        if not files:
            raise DataError(
                f"The folder {folder} has no {name} file; give {', '.join(SPLITS)} as .jsonl, .csv or .parquet."
            )
        found[name] = files[0]
    return found


def _build(
    name: str,
    found: dict[str, Gathered],
    tables: Sequence[Table | Rows],
    places: Places,
    values: LabelValues,
    columns: Columns,
    names: tuple[str, ...] | None = None,
) -> tuple[DataSet, dict[str, NDArray[np.int64] | None]]:
    """(the data set, which gathered rows of each split are in it; None = all). The scale is one for all splits."""
    tally, rows = Tally(), sum(len(part.texts) for part in found.values())
    for part in found.values():
        tally.add_all(part.tally)
    if not rows:
        raise DataError(nothing_in(name, tally))
    scale = _scale(name, found, values, columns) if places.label else Scale((), {}, False, "")
    places_of = np.array([scale.index.get(value, -1) if value is not None else -1 for value in values.values], np.int64)
    outside = _outside(scale, values, found) if places.label else {}
    splits: dict[str, Reviews] = {}
    kept: dict[str, NDArray[np.int64] | None] = {}
    for split, part in found.items():
        indices = (
            places_of[np.frombuffer(part.codes, np.int32)]
            if places.label and part.codes
            else np.full(len(part.texts), -1)
        )
        whole = not places.label or not len(indices) or indices.min() >= 0
        kept[split] = None if whole else np.flatnonzero(indices >= 0)
        texts = part.texts if whole else part.texts.take(kept[split].tolist())  # type: ignore[union-attr]
        splits[split] = Reviews(cast(list[str], texts), indices.tolist() if whole else indices[kept[split]].tolist())
    for reason, (count, lines) in outside.items():
        for i, line in enumerate(lines):
            tally.add(reason, line, 0 if i else count)
    if not any(len(reviews) for reviews in splits.values()):
        raise DataError(nothing_in(name, tally))
    origin = _origin(
        tables[0], places, scale, rows + sum(tally.counts.values()) - sum(count for count, _ in outside.values()), tally
    )
    read = scale.names if places.label else ()
    present = {label for reviews in splits.values() for label in set(reviews.labels)}
    absent = [read[i] for i in range(len(read)) if i not in present]
    late = sorted({str(column) for table in tables for column in table.late})
    notes = (
        *places.notes,
        *((f"No review has the label {', '.join(absent)}.",) if absent else ()),
        *((f"Columns that begin after the first rows are passed over: {', '.join(late)[:200]}.",) if late else ()),
    )
    return (
        DataSet(name, (names or read) if read else (), scale.ordinal, splits, tally.counts, notes, origin=origin),
        kept,
    )


def _scale(name: str, found: dict[str, Gathered], values: LabelValues, columns: Columns) -> Scale:
    counts: Counter[str] = Counter()
    for part in found.values():
        if part.codes:
            for value, rows in zip(
                values.values, np.bincount(np.frombuffer(part.codes, np.int32)).tolist(), strict=False
            ):
                if value is not None and rows:
                    counts[value] += rows
    return find_scale(counts, name, columns.labels)


def _outside(scale: Scale, values: LabelValues, found: dict[str, Gathered]) -> dict[str, tuple[int, list[int]]]:
    """Rows whose label is missing or outside the scale, by reason: (how many, their first lines)."""
    result: dict[str, tuple[int, list[int]]] = {}
    total = sum(
        np.bincount(np.frombuffer(part.codes, np.int32), minlength=len(values.values))
        for part in found.values()
        if part.codes
    )
    rarest_last = sorted(range(len(values.values)), key=lambda code: -int(total[code]))  # type: ignore[index]
    for code in rarest_last:
        value, rows = values.values[code], int(total[code])  # type: ignore[index]
        if not rows or (value is not None and value in scale.index):
            continue
        reason = "no label" if value is None else f"label {value[:40]!r} outside {scale.names[0]} to {scale.names[-1]}"
        if value is not None and not scale.ordinal:
            reason = f"label {value[:40]!r} not among those given"
        if len(result) >= _SHOWN_VALUES and reason not in result and value is not None:
            reason = "other labels outside the scale"
        before, lines = result.get(reason, (0, []))
        result[reason] = (before + rows, sorted(lines + values.lines[code])[:5])
    return result


def _origin(table: Table | Rows, places: Places, scale: Scale, rows: int, tally: Tally) -> Origin:
    dialect = table.dialect
    return Origin(
        rows=rows,
        text_column=places.text,
        title_column=places.title,
        label_column=places.label,
        columns=table.columns,
        label_rule=scale.rule,
        kind=dialect.kind,
        packing=dialect.packing,
        encoding=dialect.encoding.name if dialect.encoding else None,
        encoding_guessed=dialect.guessed,
        delimiter=dialect.delimiter,
        header=dialect.header,
        first_lines={reason: tuple(lines) for reason, lines in tally.lines.items()},
    )
