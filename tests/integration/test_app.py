"""The app from outside: what it refuses at the start, and its HTTP interface through a client."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.commands import python
from tests.serving import ROOT, App, app_environment, free_port


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return Client(app.url, verbose=False)


def refusal(tmp_path: Path, **environment: str) -> str:
    done = python("app.py", env=app_environment(tmp_path, **environment))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_refused(app: App, tmp_path: Path) -> None:
    port = app.url.rstrip("/").rpartition(":")[2]
    assert f"Port {port} on 127.0.0.1 cannot be used" in refusal(tmp_path, GRADIO_SERVER_PORT=port)


def test_an_open_host_needs_a_password(tmp_path: Path) -> None:
    port = str(free_port())
    assert "QLORA_DEMO_AUTH=user:password" in refusal(tmp_path, GRADIO_SERVER_NAME="0.0.0.0", GRADIO_SERVER_PORT=port)
    assert "not of the form user:password" in refusal(tmp_path, QLORA_DEMO_AUTH="nobody", GRADIO_SERVER_PORT=port)
    assert "give a number from 1 to 65535" in refusal(tmp_path, GRADIO_SERVER_PORT="http")


def test_a_run_is_started_watched_and_stopped_by_who_has_its_key(client: Client) -> None:
    started = client.predict({"max_steps": 500, "rows": 200, "batch_size": 4, "max_length": 16}, api_name="/start_run")
    run, key = started["run"], started["key"]
    with pytest.raises(AppError, match="key does not belong"):
        client.predict(run, "guess", api_name="/stop_run")
    deadline = time.monotonic() + 120
    while not any(event["event"] == "phase" for event in client.predict(run, api_name="/run")["events"]):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    stopping = ("running", "stopping", "starting", "stopped", "failed")
    assert client.predict(run, key, api_name="/stop_run")["state"] in stopping
    while (now := client.predict(run, api_name="/run"))["state"] in ("starting", "running", "stopping"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert now["state"] in ("stopped", "failed") and [item["run"] for item in client.predict(api_name="/runs")] == [run]
    with pytest.raises(AppError, match="There is no run"):
        client.predict("../../etc", api_name="/run")


def test_endpoints_are_described(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {"/classify", "/memory", "/start_run", "/run", "/stop_run", "/runs"} == named.keys()
    assert [parameter["parameter_name"] for parameter in named["/classify"]["parameters"]] == ["text", "adapter"]
    assert all(endpoint.get("description") for endpoint in named.values())


def test_no_path_of_this_machine_is_on_the_page(app: App) -> None:
    for address in ("", "config", "gradio_api/info"):
        with urllib.request.urlopen(app.url + address, timeout=30) as answer:
            text = answer.read().decode()
        assert str(ROOT) not in text and str(app.home) not in text, address
