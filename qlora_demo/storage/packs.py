"""What leaves this machine: a publication in its folder, where it is once sent, and zips that can be had for a day.

A zip lies in a folder of its own, whose name nobody can guess. Knows neither what is in the files nor who asks.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.report import Report

KEPT_SECONDS = 24 * 3600
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


class Pack(Report):
    """A zip `name` in the folder `place`; also the report of a merge. `merging`: how far what is in it is from the
    adapter (merging.merge), where it was merged."""

    place: str
    name: str
    size_bytes: int
    merging: dict[str, Any] | None = None


def new_place(home: Path) -> Path:
    """An empty folder for a pack, or for what it is made of; those of yesterday make room. Raises OSError."""
    sweep(home)
    place = _packs(home) / secrets.token_hex(16)
    place.mkdir(parents=True)
    return place


def find_pack(home: Path, place: str, name: str) -> Path | None:
    """Where the zip lies; None where there is none, or the names are not those of one."""
    if not _PLACE.fullmatch(place) or not _NAME.fullmatch(name):
        return None
    path = _packs(home) / place / name
    return path if path.is_file() else None


def sweep(home: Path, now: float | None = None) -> int:
    """Deletes what is older than a day; how many."""
    before = (time.time() if now is None else now) - KEPT_SECONDS
    old = [place for place in _packs(home).glob("*") if place.stat().st_mtime < before]
    for place in old:
        shutil.rmtree(place, ignore_errors=True)
    return len(old)


def _packs(home: Path) -> Path:
    return home / ".cache" / "packs"
