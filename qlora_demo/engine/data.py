"""Reviews from the sample, the Hub or a file: columns found, labels read, split, shuffled and counted.

Knows neither models nor tokenizers. A label is an index 0..k-1 everywhere inside the engine; `labels` holds the names.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..paths import DATA_FILES as READERS
from .hubdata import AMAZON, SPLITS, read_hub
from .hubfiles import OnProgress, ShouldStop

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SAMPLE_LABELS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")

TEXT_NAMES = ("text", "review", "review_text", "reviewtext", "review_body", "body", "content", "comment", "verified_reviews", "sentence")
TITLE_NAMES = ("title", "review_title", "summary", "headline")
LABEL_NAMES = ("label", "stars", "star", "rating", "star_rating", "overall", "score", "sentiment", "class")


@dataclass(frozen=True)
class Reviews:
    """Texts and their labels (indices), side by side."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, order: Sequence[int]) -> Reviews:
        return Reviews([self.texts[i] for i in order], [self.labels[i] for i in order])


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

    def describe(self) -> dict[str, Any]:
        """What a report keeps: counts and a SHA-256 over all texts and labels in order, never the texts."""
        digest = hashlib.sha256()
        for name in SPLITS:
            for text, label in zip(self.splits[name].texts, self.splits[name].labels, strict=True):
                digest.update(f"{name}\0{label}\0{text}\n".encode())
        return {
            "name": self.name,
            "revision": self.revision,
            "labels": list(self.labels),
            "ordinal": self.ordinal,
            "skipped": self.skipped,
            "notes": list(self.notes),
            "rows": {name: len(self.splits[name]) for name in SPLITS},
            "balance": {name: [Counter(self.splits[name].labels)[i] for i in range(len(self.labels))] for name in SPLITS},
            "sha256": digest.hexdigest(),
        }


@dataclass(frozen=True)
class Columns:
    """Column names that the user chose; empty = found by name."""

    text: str = ""
    title: str = ""
    label: str = ""


def load(
    data: str,
    *,
    config: str = "",
    revision: str = "",
    columns: Columns = Columns(),
    rows: int = 0,
    seed: int = 42,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> DataSet:
    """The reviews of `data` in three splits, the training split shuffled and (with `rows`) cut to a stratified subset.

    A file without splits is divided 80 / 10 / 10 by class; identical texts stay in one split. Raises DataError, HubError, or
    DownloadStopped once `should_stop()` is true.
    """
    if data in ("sample", "sample-mix"):
        found = {name: _read_file(ASSETS / "sample_reviews" / f"{name}.jsonl") for name in SPLITS}
        if data == "sample-mix":
            found["train"] = _mixed(found["train"])
        full = _build(data, found, columns, names=SAMPLE_LABELS)
    elif _is_file(data):
        full = _build(Path(data).name, _divide(_read_file(Path(data)), columns, seed), columns)
    elif Path(data).is_dir():
        full = _build(Path(data).name, _read_folder(Path(data)), columns)
    else:
        name, at, found = read_hub(data, config, revision, on_progress=on_progress, should_stop=should_stop)
        full = replace(_build(name, found, columns), revision=at)
        if data == "amazon-reviews" and name != AMAZON:
            full = replace(full, notes=(f"The Hub did not give {AMAZON}; the reviews come from {name}.", *full.notes))
    train = full.splits["train"]
    order = _stratified(train.labels, rows, seed) if rows else random.Random(seed).sample(range(len(train)), len(train))
    return replace(full, splits={**full.splits, "train": train.take(order)})


def _mixed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the shipped adapter learns from: all plain reviews, every third subtle one, and plain ones joined in pairs of equal stars.

    Chosen on real reviews (validation), which are longer and less of one piece than the sample's: sarcasm written for the sample
    teaches the sample more than it teaches reality, and joined reviews, three for ten others, teach both (benchmarks/sample_adapter.md).
    """
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


def load_rows(data: str, *, config: str = "", revision: str = "", split: str = "", columns: Columns = Columns()) -> DataSet:
    """The reviews of `data` to be judged, as split "test": all rows of a file, else `split` (test if empty)."""
    if _is_file(data):
        rows = _read_file(Path(data))
        return _build(Path(data).name, {"train": [], "validation": [], "test": rows}, columns)
    wanted = split or "test"
    if wanted not in SPLITS:
        raise DataError(f"There is no split {wanted!r}; choose train, validation or test.")
    full = load(data, config=config, revision=revision, columns=columns)
    empty = Reviews([], [])
    return replace(full, splits={"train": empty, "validation": empty, "test": full.splits[wanted]})


def is_on_hub(data: str) -> bool:
    """Whether `data` is neither the sample nor a file or folder of this machine. Raises DataError for a file that is not there."""
    return data not in ("sample", "sample-mix") and not _is_file(data) and not Path(data).is_dir()


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
        f"The reviews are labelled {', '.join(found.labels)}, the adapter knows {', '.join(names)}; choose reviews with its labels."
    )


def read_labels(values: Sequence[Any], where: str) -> tuple[tuple[str, ...], list[int], bool]:
    """(names, indices, ordinal) of raw label values; indices are -1 where a value is missing.

    Whole numbers 0-4 that include 0 are the scale 0-4, within 1-5 the scale 1-5; "4 stars" counts as 4.
    Other sets of 2 to 20 values are classes, in sorted order and not ordinal.
    """
    clean = [_label_text(value) for value in values]
    seen = sorted({label for label in clean if label is not None})
    numbers = {label: int(match[1]) for label in seen if (match := re.fullmatch(r"(\d+)(?:\.0+)?(?:[\s-]*stars?)?", label, re.I))}
    if seen and len(numbers) == len(seen) and max(numbers.values()) <= 5:
        low = 0 if 0 in numbers.values() else 1
        if max(numbers.values()) <= low + 4:
            names = tuple(str(star) for star in range(low, low + 5))
            return names, [-1 if label is None else numbers[label] - low for label in clean], True
    if not 2 <= len(seen) <= 20:
        raise DataError(f"{where} has {len(seen)} different labels; give 2 to 20, such as the stars 1 to 5.")
    index = {label: i for i, label in enumerate(seen)}
    return tuple(seen), [-1 if label is None else index[label] for label in clean], False


def _label_text(value: Any) -> str | None:
    """A label as text; None for what is missing (NaN is not equal to itself)."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _is_file(data: str) -> bool:
    path = Path(data)
    if path.is_file():
        return True
    if path.suffix.lower() in READERS:
        raise DataError(f"There is no file {data}; check the path.")
    return False


def _read_file(path: Path) -> list[dict[str, Any]]:
    """Rows of one file as dictionaries. The Data tab's reader for messy files builds on this."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(f"{path.name} ends in {suffix or 'nothing'}; give a .csv, .tsv, .json, .jsonl or .parquet file.")
    try:
        if suffix in (".json", ".jsonl"):
            text = path.read_text(encoding="utf-8-sig")
            rows = (
                json.loads(text)
                if suffix == ".json" and text.lstrip()[:1] == "["
                else [json.loads(line) for line in text.splitlines() if line.strip()]
            )
            if not all(isinstance(row, dict) for row in rows):
                raise DataError(f"{path.name} holds values that are no objects; give one object with a text and a label per review.")
            return list(rows)
        import pandas

        if suffix == ".parquet":
            return pandas.read_parquet(path).to_dict("records")  # type: ignore[return-value]
        frame = pandas.read_csv(path, sep="\t" if suffix == ".tsv" else ",", dtype=str, keep_default_na=False, encoding="utf-8-sig")
        return frame.to_dict("records")  # type: ignore[return-value]
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 (first bad byte at offset {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or 'input or output error'}.") from None
    except Exception as error:  # each reader has its own errors for a malformed file
        raise DataError(f"{path.name} is not a readable {suffix} file: {str(error).splitlines()[0][:120]}.") from None


def _read_folder(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for name in SPLITS:
        files = [folder / f"{name}{suffix}" for suffix in READERS if (folder / f"{name}{suffix}").is_file()]
        if not files:
            raise DataError(f"The folder {folder} has no {name} file; give {', '.join(SPLITS)} as .jsonl, .csv or .parquet.")
        found[name] = _read_file(files[0])
    return found


def _divide(rows: list[dict[str, Any]], columns: Columns, seed: int) -> dict[str, list[dict[str, Any]]]:
    """80 / 10 / 10, by class; identical texts fall into the same split, so that none is trained on and judged."""
    if not rows:
        return {name: [] for name in SPLITS}
    text, _, label = _find_columns(rows, columns)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get(text, "")), []).append(row)
    by_class: dict[str, list[str]] = {}
    for key, members in groups.items():
        by_class.setdefault(str(members[0].get(label)), []).append(key)
    result: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for name in sorted(by_class):
        keys = by_class[name]
        random.Random(f"{seed} {name}").shuffle(keys)
        cut = max(1, round(len(keys) / 10)) if len(keys) >= 3 else 0
        for i, key in enumerate(keys):
            result["validation" if i < cut else "test" if i < 2 * cut else "train"].extend(groups[key])
    return result


def _find_columns(rows: list[dict[str, Any]], columns: Columns) -> tuple[str, str, str]:
    """(text, title or "", label) column names. Raises DataError naming the columns that are there."""
    names = list(rows[0])
    lower = {str(name).strip().lower(): name for name in names}

    def find(chosen: str, known: tuple[str, ...], what: str, needed: bool) -> str:
        if chosen:
            if chosen not in names:
                raise DataError(f"There is no column {chosen!r} for the {what}; the columns are {', '.join(map(str, names))[:300]}.")
            return chosen
        for name in known:
            if name in lower:
                return str(lower[name])
        if needed:
            raise DataError(f"No column looks like the {what}; the columns are {', '.join(map(str, names))[:300]}: name it.")
        return ""

    return (
        find(columns.text, TEXT_NAMES, "text", True),
        find(columns.title, TITLE_NAMES, "title", False),
        find(columns.label, LABEL_NAMES, "label", True),
    )


def _build(name: str, found: dict[str, list[dict[str, Any]]], columns: Columns, names: tuple[str, ...] | None = None) -> DataSet:
    """Rows to reviews: titles joined, labels read over all splits at once, empty texts and missing labels counted."""
    every = [row for split in SPLITS for row in found[split]]
    if not every:
        raise DataError(f"{name} holds no reviews; give a file with a text and a label in each row.")
    text, title, label = _find_columns(every, columns)
    read, indices, ordinal = read_labels([row.get(label) for row in every], name)
    skipped: Counter[str] = Counter()
    splits, position = {}, 0
    for split in SPLITS:
        texts, labels = [], []
        for row in found[split]:
            index, body = indices[position], str(row.get(text) or "").strip()
            position += 1
            head = str(row.get(title) or "").strip() if title else ""
            body = f"{head}\n\n{body}" if head and body else head or body
            if not body or index < 0:
                skipped["empty text" if not body else "no label"] += 1
                continue
            texts.append(body)
            labels.append(index)
        splits[split] = Reviews(texts, labels)
    absent = [read[i] for i in range(len(read)) if i not in set(indices)]
    notes = (f"No review has the label {', '.join(absent)}.",) if absent else ()
    return DataSet(name, names or read, ordinal, splits, dict(skipped), notes)


def _stratified(labels: Sequence[int], rows: int, seed: int) -> list[int]:
    """Indices of a shuffled subset with the classes' shares of the whole, every class at least once.

    Files are often sorted by star: the first N rows would be one class (the tutorial's fifth mistake).
    """
    if rows >= len(labels):
        rows = len(labels)
    by_class: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        by_class.setdefault(label, []).append(i)
    generator = random.Random(seed)
    # Largest remainder: shares add up to exactly `rows`.
    shares = {label: rows * len(members) / len(labels) for label, members in by_class.items()}
    counts = {label: max(1, int(share)) for label, share in shares.items()}
    for label in sorted(shares, key=lambda item: shares[item] - int(shares[item]), reverse=True):
        if sum(counts.values()) < rows and counts[label] < len(by_class[label]):
            counts[label] += 1
    chosen = [i for label in sorted(by_class) for i in generator.sample(by_class[label], counts[label])]
    generator.shuffle(chosen)
    return chosen
