"""What several kinds of tests share: apps, one finished run.

Tests that share something stay in one process, in the order of their files. They are a group (`xdist_group`), named
where several files share an app, else the file itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hub_server import TOKEN, HubServer, environment
from tests.serving import NOBODY, App, start_app, stop_app


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app at home, of the group `app`: its tests start no training run, or end and name the ones they start."""
    place = tmp_path_factory.mktemp("app")
    running = start_app(place / "runs", place / "app.log", HF_ENDPOINT=NOBODY)
    yield running
    stop_app(running)


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app of one module, whose tests build on the runs that those before them left, as a user does."""
    place = tmp_path_factory.mktemp("own-app")
    running = start_app(place / "runs", place / "app.log", HF_ENDPOINT=NOBODY)
    yield running
    stop_app(running)


@pytest.fixture(scope="session")
def public_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A public host, of the group `public`."""
    place = tmp_path_factory.mktemp("public")
    running = start_app(place / "runs", place / "app.log", HF_ENDPOINT=NOBODY, QLORA_DEMO_PUBLIC="1")
    yield running
    stop_app(running)


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
