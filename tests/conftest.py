"""What several kinds of tests share: apps, one finished run.

Tests that share something stay in one process, in the order of their files: those of a file, and of the files that
SHARING names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.hub_server import TOKEN, HubServer, environment
from tests.serving import NOBODY, App, start_app, stop_app

SHARING = {
    "tests/browser/test_classify_page.py": "app",
    "tests/browser/test_file_panel.py": "app",
    "tests/browser/test_learn.py": "app",
    "tests/browser/test_memory_tab.py": "app",
    "tests/integration/test_app.py": "app",
    "tests/integration/test_classifier_numbers.py": "app",
    "tests/integration/test_front_door.py": "app",
    "tests/integration/test_programs.py": "app",
    "tests/browser/test_two_visitors.py": "public",
    "tests/browser/test_data_tab.py": "hub",
    "tests/browser/test_hub.py": "hub",
    "tests/browser/test_publish_tab.py": "hub",
}


class FilesThatShareAnApp(LoadScopeScheduling):
    """Hands out files whole, and those that share an app to one process.

    pytest-xdist's own `loadgroup` (3.8) renames tests for that, which pytest 9.2 no longer lets it do."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARING.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return FilesThatShareAnApp(config, log)


@contextmanager
def running_app(place: Path, **variables: str) -> Iterator[App]:
    """An app whose runs and log lie in `place`, and which has no Hub."""
    running = start_app(place / "runs", place / "app.log", HF_ENDPOINT=NOBODY, **variables)
    yield running
    stop_app(running)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app at home, of the group `app`: its tests start no training run, or end and name the ones they start."""
    with running_app(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app of one module, whose tests build on the runs that those before them left, as a user does."""
    with running_app(tmp_path_factory.mktemp("own-app")) as running:
        yield running


@pytest.fixture(scope="session")
def public_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A public host, of the group `public`."""
    with running_app(tmp_path_factory.mktemp("public"), QLORA_DEMO_PUBLIC="1") as running:
        yield running


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def hub_app(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app that takes `hub` for the Hub and may write there, of the group `hub`."""
    place = tmp_path_factory.mktemp("hub-app")
    wanted = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")
    variables = {name: value for name, value in environment(hub, place).items() if name in wanted}
    running = start_app(place / "runs", place / "app.log", HF_TOKEN=TOKEN, **variables)
    yield running
    stop_app(running)
    assert TOKEN not in running.log.read_text()


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """A command in this process: (exit status, standard output, standard error)."""
    from qlora_demo.__main__ import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(list(arguments))
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
