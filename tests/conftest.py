"""What several kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import App, start_app, stop_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One app for the tests of a module: they build on what those before them left, as a user does."""
    place = tmp_path_factory.mktemp("app")
    # An address where nothing listens: what needs no Hub must not wait for one.
    running = start_app(place / "runs", place / "app.log", HF_ENDPOINT="http://127.0.0.1:9")
    yield running
    stop_app(running)
