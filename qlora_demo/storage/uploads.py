"""Files that a browser has sent: kept beside the runs under a name nobody can guess, and deleted after a day.

A run keeps the path of its file, so a file that a run still needs outlives the day. Knows nothing of what is in them.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from pathlib import Path

from ..core.errors import DataError
from ..core.records import FINAL_STATES

KEPT_SECONDS = 24 * 3600
MAX_UPLOAD_BYTES = 200 * 1024**2
_NAME_CHARACTERS = 100
_PREFIX = "upload:"


def keep(sent: str | Path, home: Path, *, most_bytes: int | None = None, room_bytes: int | None = None) -> Path:
    """A copy of the file that the browser has sent, in `home`/.cache/uploads; old ones make room.

    `most_bytes`: of one file, `room_bytes`: of all. Raises DataError where it is too large or cannot be kept.
    """
    source = Path(sent)
    try:
        sweep(home)
        size, most = source.stat().st_size, most_bytes or MAX_UPLOAD_BYTES
        if size > most:
            raise DataError(f"The file has {size / 1024**2:,.0f} MiB; give one of at most {most // 1024**2} MiB.")
        kept_bytes = sum(file.stat().st_size for file in _folder(home).glob("*/*"))
        if room_bytes is not None and size + kept_bytes > room_bytes:
            raise DataError("The space for uploads is full; files are deleted after a day, so try again later.")
        folder = _folder(home) / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return Path(shutil.copyfile(source, folder / safe_name(source.name)))
    except OSError as error:
        raise DataError(
            f"The file could not be kept: {error.strerror or 'input or output error'}; try again."
        ) from None


def safe_name(name: str) -> str:
    """A file's name without what a path, a shell or a page could take for something else; its ending stays."""
    clean = re.sub(r"[^\w.\- ]", "_", Path(name.replace("\\", "/")).name).strip(". ") or "file"
    return clean[-_NAME_CHARACTERS:]


def name_of(path: str, home: Path) -> str:
    """What a kept file is called in settings: `upload:` and what nobody can guess, never where it lies; any other path
    as it is.
    """
    file = Path(path)
    return f"{_PREFIX}{file.parent.name}/{file.name}" if is_upload(path, home) else path


def locate(name: str, home: Path) -> str:
    """Where the file lies that `name_of` named; "" for any other name. Raises DataError where it is not kept any
    more.
    """
    if not name.startswith(_PREFIX):
        return ""
    path = _folder(home).joinpath(*name.removeprefix(_PREFIX).split("/"))
    if not is_upload(path, home):
        raise DataError(f"The uploaded file {safe_name(name)} is not kept any more; upload it again.")
    return str(path)


def is_upload(path: str | Path, home: Path) -> bool:
    """Whether `path` is a file that was kept here."""
    file = Path(path)
    return file.is_file() and file.resolve().parent.parent == _folder(home).resolve()


def was_upload(path: str | Path, home: Path) -> bool:
    """Whether a file that was kept here lies, or lay, at `path`."""
    return _folder(home.absolute()) in Path(path).parents


def sweep(home: Path, now: float | None = None) -> int:
    """Deletes uploads older than a day that no run which may still start or be resumed needs. Returns their number."""
    deleted, before = 0, (time.time() if now is None else now) - KEPT_SECONDS
    wanted = _named_by_runs(home)
    for folder in _folder(home).glob("*"):
        if folder.stat().st_mtime < before and not any(str(file) in wanted for file in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
            deleted += 1
    return deleted


def drop(path: str | Path, home: Path) -> None:
    """Deletes a kept file before its day is over, unless a run that may still start or be resumed names it. Raises
    OSError.
    """
    if is_upload(path, home) and str(path) not in _named_by_runs(home):
        shutil.rmtree(Path(path).parent)


def _folder(home: Path) -> Path:
    return home / ".cache" / "uploads"


def _named_by_runs(home: Path) -> set[str]:
    named = set()
    for path in home.glob("*/config.json"):
        try:
            state = json.loads((path.parent / "state.json").read_text(encoding="utf-8"))
            # A training may be resumed; what else has ended does not read its file again.
            if state.get("state") != "done" and (
                state.get("kind") == "train" or state.get("state") not in FINAL_STATES
            ):
                named |= {
                    value for value in json.loads(path.read_text(encoding="utf-8")).values() if isinstance(value, str)
                }
        except (OSError, ValueError, AttributeError):
            continue
    return named
