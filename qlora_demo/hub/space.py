"""Uploads the app as a Space: `make space REPO=user/name [HARDWARE=zero-a10g]`.

The files that git tracks, as they lie in the working tree, in one commit; runs, caches and environments stay at home. A
Space that holds something else is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ..core.errors import DemoError, HubError

ROOT = Path(__file__).resolve().parents[2]
MARK = "qlora_demo/hub/space.py"  # in every Space of this app
BY_HUB = {".gitattributes", "README.md"}  # what the Hub puts into a new one by itself
HARDWARE = (
    "zero-a10g"  # ZeroGPU, by its old name: without a subscription the Hub creates no other Space that runs Python
)


def uploaded_files() -> list[str]:
    """Paths below the project's folder of what a Space gets: all that git tracks, but tests, benchmarks and CI."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return [name for name in tracked if name and not name.startswith((".ci/", "tests/", "benchmarks/"))]


def upload_space(repo: str, hardware: str = "") -> str:
    """Creates the Space `repo` (user/name) if need be and uploads the app; its address. Raises HubError.

    hardware: the Hub's name of what a new Space is to run on, "" = ZeroGPU; what stands keeps its own.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceHardware, get_token

    from .refusals import LOG_IN, check_name, check_online, hush, in_words

    hush()
    check_online(check_name(repo))
    if hardware and hardware not in (known := [str(item.value) for item in SpaceHardware]):
        raise HubError(f"{hardware[:40]!r} is no hardware of a Space; choose one of {', '.join(known)}.")
    if get_token() is None:
        raise HubError(f"You are not logged in to the Hub; {LOG_IN}.")
    api = HfApi()
    try:
        chosen: Any = SpaceHardware(hardware or HARDWARE)
        address = api.create_repo(repo, repo_type="space", space_sdk="gradio", space_hardware=chosen, exist_ok=True)
        info = api.space_info(repo)
        there = {item.rfilename for item in info.siblings or ()}
        if there - BY_HUB and MARK not in there:
            raise HubError(f"{repo} is another Space already, which is left alone; give another name.")
        files = uploaded_files()
        api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, ROOT / name) for name in files),
                *(CommitOperationDelete(name, is_folder=False) for name in sorted(there - BY_HUB - set(files))),
            ],
            repo_type="space",
            commit_message="Upload the QLoRA demo",
            parent_commit=info.sha,
        )
    except DemoError:
        raise
    except Exception as error:
        raise in_words(error, repo) from None
    return str(address)


if __name__ == "__main__":
    try:
        print(upload_space(*sys.argv[1:3]) if len(sys.argv) > 1 else upload_space(""))
    except DemoError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
