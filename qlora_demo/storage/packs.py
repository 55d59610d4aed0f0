"""What leaves this machine: publications in their folders, and zips; each is kept for a day, all within a limit.

Each lies in a folder of its own, its place, whose name nobody can guess. Knows neither what is in the files nor who
asks.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.format import GiB
from ..core.report import Record, Report

KEPT_SECONDS = 24 * 3600
BUSY_SECONDS = 3600  # a place in the making is not swept for so long: longer than any merge takes
_BUSY = ".busy"
# The Hub's names of common licences; "other" leads to a text of one's own.
LICENCES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "mpl-2.0",
    "gpl-3.0",
    "lgpl-3.0",
    "agpl-3.0",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "openrail",
    "llama3",
    "gemma",
    "unlicense",
    "other",
)
_PLACE, _NAME = re.compile(r"[0-9a-f]{32}"), re.compile(r"[\w.-]{1,120}\.zip", re.ASCII)


@dataclass(frozen=True)
class PublishedFile:
    """A file of a publication; `what` says in words what it is for."""

    name: str
    size_bytes: int
    what: str


@dataclass(frozen=True)
class Publication:
    """A folder that holds what is to be published and nothing else. `files` in the order of reading; `card` is
    README.md's text.
    """

    folder: Path
    files: tuple[PublishedFile, ...]
    card: str


@dataclass(frozen=True)
class Published:
    """Where a model is on the Hub: its page, the commit's sha, and the names of its files there."""

    url: str
    commit: str
    files: tuple[str, ...]


class Merging(Record):
    """How far a merged model is from its adapter, over `rows` reviews; same_label is a share of them.

    bytes: of the weights on disk; trained_at: the precision of the base that the adapter was trained on."""

    parameters: int
    bytes: int
    trained_at: str
    rows: int
    max_logit_difference: float
    mean_logit_difference: float
    largest_probability_difference: float
    same_label: float


class Pack(Report):
    """A zip `name` in the folder `place`; also the report of a merge. `merging`: where it was merged."""

    place: str
    name: str
    size_bytes: int
    merging: Merging | None = None


@dataclass(frozen=True)
class Limit:
    """How much is kept at most: `places` of `size_bytes` in all."""

    places: int
    size_bytes: int


LIMIT, PUBLIC_LIMIT = Limit(100, 20 * GiB), Limit(30, 2 * GiB)


def new_place(home: Path, limit: Limit = LIMIT) -> Path:
    """An empty folder for a pack, or for what it is made of; old ones are deleted for it. Raises OSError.

    It is not swept until `finish` says that it is whole."""
    sweep(home, limit=limit)
    place = _packs(home) / secrets.token_hex(16)
    place.mkdir(parents=True)
    (place / _BUSY).touch()
    return place


def finish(place: Path) -> None:
    """What a place holds is whole: from now on it goes when others need the space."""
    (place / _BUSY).unlink(missing_ok=True)


def find_pack(home: Path, place: str, name: str) -> Path | None:
    """Where the zip lies; None where there is none, or the names are not those of one."""
    if not _PLACE.fullmatch(place) or not _NAME.fullmatch(name):
        return None
    path = _packs(home) / place / name
    return path if path.is_file() else None


def sweep(home: Path, now: float | None = None, limit: Limit = LIMIT) -> int:
    """Deletes what is older than a day, then the oldest until the rest is within the limit; how many places.

    The newest stays, whatever its size, and so do those in the making."""
    now = time.time() if now is None else now
    ages = {place: now - _modified(place) for place in _packs(home).glob("*")}
    seen_bytes, removed = 0, 0
    for seen, (place, age) in enumerate(sorted(ages.items(), key=lambda item: item[1])):
        seen_bytes += _size(place)
        beyond = seen > 0 and (seen >= limit.places or seen_bytes > limit.size_bytes)
        busy = (place / _BUSY).exists() and age < BUSY_SECONDS
        if age > KEPT_SECONDS or (beyond and not busy):
            shutil.rmtree(place, ignore_errors=True)
            removed += 1
    return removed


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has swept it
        return 0.0


def _size(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _packs(home: Path) -> Path:
    return home / ".cache" / "packs"
