"""What unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is asked of the Hub, and nothing was fetched before."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QLORA_DEMO_OFFLINE", "1")
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
