"""A model from the Hub: what it costs is shown and asked before anything is fetched; a cancel leaves no half file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.waiting import Open, enter, open_tab, wait_for_text
from tests.hub_server import HubServer, make_gpt2
from tests.reviews import write_reviews
from tests.serving import App

pytestmark = pytest.mark.browser
MODEL = "openai-community/gpt2"


@pytest.fixture(scope="module", autouse=True)
def _model(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub.add_model(MODEL, make_gpt2(tmp_path_factory.mktemp("model")), license="mit")


def fetched(app: App, pattern: str) -> list[Path]:
    """Files of the Hub cache by name: half-fetched ones end in `incomplete`."""
    return sorted((app.home / ".hf").rglob(pattern))


def test_nothing_is_fetched_before_a_yes_and_a_cancel_leaves_no_half_file(
    hub_app: App, hub: HubServer, open_page: Open
) -> None:
    page = open_page(hub_app.url)
    enter(page, "memory-model", MODEL)
    page.click("#memory-measure")
    page.wait_for_selector("#memory-fetch")
    question = page.inner_text("#memory-ask")
    for word in (MODEL, "To download", "Free disk", "mit", "Gated"):
        assert word in question
    page.click("#memory-refuse")
    page.wait_for_selector("#memory-fetch", state="hidden")
    assert not any("model.safetensors" in path for path in hub.paths()), "weights were fetched without a yes"

    hub.throttle(20_000)
    page.click("#memory-measure")
    page.click("#memory-fetch")
    wait_for_text(page, "#memory-status", "model.safetensors")
    page.click("#memory-cancel")
    wait_for_text(page, "#memory-status", "cancelled")
    assert fetched(hub_app, "*incomplete") == fetched(hub_app, "model.safetensors") == []

    hub.throttle(None)
    page.click("#memory-measure")
    page.click("#memory-fetch")
    wait_for_text(page, "#memory-figure", "as predicted, to the byte")
    assert len(fetched(hub_app, "model.safetensors")) == 1


def test_training_asks_too(hub_app: App, hub: HubServer, open_page: Open, tmp_path: Path) -> None:
    hub.add_model("some/other", make_gpt2(tmp_path / "other"), license="apache-2.0")
    (tmp_path / "data").mkdir()
    write_reviews(tmp_path / "data" / "train.jsonl", 12)
    hub.add_dataset("some/reviews", tmp_path / "data", license="other")
    page = open_page(hub_app.url)
    open_tab(page, "Train")
    for field, value in (("model", "some/other"), ("data", "some/reviews")):
        enter(page, f"train-{field}", value)
    page.click("#train-start")
    page.wait_for_selector("#train-fetch")
    question = page.inner_text("#train-ask")
    assert "The model some/other" in question and "apache-2.0" in question
    assert "The data set some/reviews" in question and question.count("To download") == 2
    assert page.inner_text("#train-status") == "no run yet"
    page.click("#train-refuse")
    page.wait_for_selector("#train-fetch", state="hidden")
