"""Uploads the app as a Space: `make space REPO=user/name`.

The files that git tracks, as they are committed in the working tree; runs, caches and environments stay at home.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import DemoError, HubError

ROOT = Path(__file__).resolve().parents[2]


def uploaded_files() -> list[str]:
    """Paths below the project's folder of what a Space gets: all that git tracks, but tests, benchmarks and CI."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [name for name in tracked if name and not name.startswith((".ci/", "tests/", "benchmarks/"))]


def upload_space(repo: str) -> str:
    """Creates the Space `repo` (user/name) if need be and uploads the app; its address. Raises HubError."""
    from huggingface_hub import HfApi, get_token

    from .refusals import LOG_IN, check_name, check_online, hush, in_words

    hush()
    check_online(check_name(repo))
    if get_token() is None:
        raise HubError(f"You are not logged in to the Hub; {LOG_IN}.")
    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.upload_folder(
            repo_id=repo, repo_type="space", folder_path=ROOT, allow_patterns=uploaded_files(), commit_message="Upload the QLoRA demo"
        )
    except Exception as error:
        raise in_words(error, repo) from None
    return str(address)


if __name__ == "__main__":
    try:
        print(upload_space(sys.argv[1] if len(sys.argv) > 1 else ""))
    except DemoError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
