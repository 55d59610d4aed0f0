"""The Hub client's cache on this disk: where a repository's files lie, which commit a name was, what is left half-done.

Asks nothing of the Hub.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

COMMIT = re.compile(r"[0-9a-f]{40}")
Kind = Literal["model", "dataset"]


def cached_snapshot(model_id: str, revision: str = "") -> tuple[Path, str] | None:
    """The folder and commit of a model that was fetched before, without asking the Hub; None where there is none."""
    sha = revision
    if not COMMIT.fullmatch(revision):
        reference = _repo_folder(model_id) / "refs" / (revision or constants.DEFAULT_REVISION)
        sha = reference.read_text().strip() if reference.is_file() else ""
    folder = snapshot_folder(model_id, sha)
    return (folder, sha) if sha and folder.is_dir() else None


def remember_reference(model_id: str, revision: str, sha: str) -> None:
    """Notes in the cache that `revision` (a tag or branch, "" the default one) was the commit `sha`, for when the Hub
    is away.

    The client does so only for downloads by name, and ours are by commit.
    """
    if not COMMIT.fullmatch(revision):
        reference = _repo_folder(model_id) / "refs" / (revision or constants.DEFAULT_REVISION)
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(sha)


def snapshot_folder(repo_id: str, sha: str, kind: Kind = "model") -> Path:
    return _repo_folder(repo_id, kind) / "snapshots" / sha


def drop_half_files(repo_id: str, kind: Kind = "dataset", blob: str = "") -> None:
    """Removes what a download left unfinished; with `blob` (an etag), of that file alone."""
    for partial in (_repo_folder(repo_id, kind) / "blobs").glob(f"{blob}*incomplete"):
        partial.unlink(missing_ok=True)


def free_disk_bytes() -> int:
    """Free bytes where the Hub cache lies (or will lie)."""
    folder = Path(constants.HF_HUB_CACHE).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _repo_folder(repo_id: str, kind: Kind = "model") -> Path:
    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repo_id, repo_type=kind)
