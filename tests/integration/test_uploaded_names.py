"""An uploaded file in a run's settings: it goes by a name that tells no path, and the worker finds it all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DataError, SettingsError
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from qlora_demo.storage import uploads
from tests.reviews import write_reviews


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    # No worker starts: what is tested is what the app does itself.
    return Services(Store(tmp_path / "runs"), public=True, launch=lambda folder: 2**22 - 1)


def test_strangers_train_on_what_they_uploaded_and_on_no_other_file(services: Services, tmp_path: Path) -> None:
    sent = write_reviews(tmp_path / "mine.jsonl", 3)
    home = services.store.home
    kept = uploads.keep(sent, home)
    name = uploads.name_of(str(kept), home)
    assert name.startswith("upload:") and name.endswith("/mine.jsonl") and str(tmp_path) not in name
    assert uploads.locate(name, home) == str(kept) and uploads.name_of(str(sent), home) == str(sent)

    config = RunConfig(data=name, max_steps=5, labels=("1", "2", "3", "4", "5"), header="found", mend=True)
    assert services.needed_downloads(config) == []
    run = services.train.start(config).run
    assert services.store.job(run).settings()["data"] == str(kept)
    assert services.train.settings(run) == config, "a page shows the name again"
    with pytest.raises(SettingsError, match="the reviews are a file that you upload"):
        services.train.start(config.model_copy(update={"data": str(sent)}))
    for path in (
        "../../etc/passwd",
        "x/mine.jsonl",
        f"{kept.parent.name}/../../x",
        "",
        "/etc/passwd",
        f"{kept.parent.name}/..",
    ):
        with pytest.raises(SettingsError, match="the reviews are a file that you upload"):
            services.train.start(config.model_copy(update={"data": f"upload:{path}"}))
    with pytest.raises(DataError, match="is not kept any more"):
        services.train.start(config.model_copy(update={"data": f"upload:{'0' * 32}/mine.jsonl"}))
