"""Gathered rows to a data set: one scale of labels for all splits; rows whose label has no place on it are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from .columns import Gathered, LabelValues, Places, nothing_in
from .labels import Scale, find_scale
from .reading.chunks import SHOWN_LINES, Tally
from .reading.tables import Rows, Table
from .reviews import DataSet, Origin, Reviews

_NAMED_VALUES = 5  # values outside a scale that are counted one by one
_NO_SCALE = Scale((), {}, False, "")


def assemble(
    name: str,
    gathered: Mapping[str, Gathered],
    tables: Sequence[Table | Rows],
    places: Places,
    values: LabelValues,
    chosen: Sequence[str],
    label_names: tuple[str, ...] = (),
) -> DataSet:
    """The data set `name` of what was gathered by split, its labels the `chosen` ones if any, called `label_names`.

    Raises DataError where no review is left, or the labels are no scale."""
    tally = Tally()
    for part in gathered.values():
        tally.add_all(part.tally)
    used = sum(len(part.texts) for part in gathered.values())
    if not used:
        raise DataError(nothing_in(name, tally))
    rows, scale, index = used + sum(tally.counts.values()), _NO_SCALE, None
    if places.label:
        codes = np.concatenate([part.codes for part in gathered.values()])
        counts = np.bincount(codes, minlength=len(values.values))
        known = {value: int(n) for value, n in zip(values.values, counts, strict=True) if value is not None and n}
        scale = find_scale(known, name, chosen)
        index = np.array([scale.index.get(value or "", -1) for value in values.values], np.int64)
        tally.add_all(_outside(scale, values, counts))
    splits = {split: _labelled(part, index) for split, part in gathered.items()}
    if not any(map(len, splits.values())):
        raise DataError(nothing_in(name, tally))
    labels = (label_names or scale.names) if places.label else ()
    notes = (*places.notes, *_notes(scale, splits, tables))
    origin = _origin(tables[0], places, scale, rows, tally)
    return DataSet(name, labels, scale.ordinal, splits, tally.counts, notes, origin=origin)


def _labelled(part: Gathered, index: NDArray[np.int64] | None) -> Reviews:
    """The reviews whose label has a place on the scale; `index`: the place of each code, -1 = none."""
    if index is None:
        return Reviews(cast(list[str], part.texts), part.codes.tolist(), part.hashes)
    labels = index[part.codes]
    if (labels >= 0).all():
        return Reviews(cast(list[str], part.texts), labels.tolist(), part.hashes)
    kept = np.flatnonzero(labels >= 0)
    return Reviews(cast(list[str], part.texts.take(kept)), labels[kept].tolist(), part.hashes[kept])


def _outside(scale: Scale, values: LabelValues, counts: NDArray[np.int64]) -> Tally:
    """Rows whose label is missing or outside the scale; only the commonest such labels by name."""
    tally = Tally()
    for code in np.argsort(-counts, kind="stable").tolist():
        value = values.values[code]
        if not counts[code] or (value is not None and value in scale.index):
            continue
        if value is None:
            reason = "no label"
        elif scale.ordinal:
            reason = f"label {value[:40]!r} outside {scale.names[0]} to {scale.names[-1]}"
        else:
            reason = f"label {value[:40]!r} not among those given"
        if value is not None and reason not in tally.counts and len(tally.counts) >= _NAMED_VALUES:
            reason = "other labels outside the scale"
        tally.counts[reason] = tally.counts.get(reason, 0) + int(counts[code])
        tally.lines[reason] = sorted([*tally.lines.get(reason, ()), *values.lines[code]])[:SHOWN_LINES]
    return tally


def _notes(scale: Scale, splits: Mapping[str, Reviews], tables: Sequence[Table | Rows]) -> list[str]:
    notes = []
    present = {label for reviews in splits.values() for label in set(reviews.labels)}
    if absent := [name for i, name in enumerate(scale.names) if i not in present]:
        notes.append(f"No review has the label {', '.join(absent)}.")
    if late := sorted({str(column) for table in tables for column in table.late}):
        notes.append(f"Columns that begin after the first rows are passed over: {', '.join(late)[:200]}.")
    return notes


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
