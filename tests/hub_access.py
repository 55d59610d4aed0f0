"""Which Hub this process asks; a process of its own is sent there by hub_server.environment()."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants


def point_to(url: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The Hub at this address, an empty cache in `folder`, nobody logged in."""
    patch.setattr(constants, "ENDPOINT", url)
    # Made of the endpoint at import; a test changes it later.
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "QLORA_DEMO_OFFLINE", "QLORA_DEMO_SAMPLE_MODEL"):
        patch.delenv(name, raising=False)
