"""Uploads the app as a Space: `make space REPO=user/name`.

The files that git tracks, as they are committed in the working tree; runs, caches and environments stay at home.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import DemoError, HubError

ROOT = Path(__file__).resolve().parents[2]


def upload_space(repo: str) -> str:
    """Creates the Space `repo` (user/name) if need be and uploads the app; its address. Raises HubError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise HubError(f"{repo!r} is no name for a Space; give REPO=user/name.")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    wanted = [name for name in tracked if name and not name.startswith((".ci/", "tests/", "benchmarks/"))]
    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type="space", folder_path=ROOT, allow_patterns=wanted, commit_message="Upload the QLoRA demo")
    except LocalTokenNotFoundError:
        raise HubError("You are not logged in to the Hub; run `hf auth login` and try again.") from None
    except HFValidationError as error:
        raise HubError(f"{repo!r} is no name for a Space: {error}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise HubError(f"The Hub refused the Space {repo} (status {status}); check the name and your token's write right.") from error
    except OSError as error:
        raise HubError(f"The Hub cannot be reached ({type(error).__name__}); check your network and try again.") from error
    return str(address)


if __name__ == "__main__":
    try:
        print(upload_space(sys.argv[1] if len(sys.argv) > 1 else ""))
    except DemoError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
