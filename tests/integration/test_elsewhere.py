"""Other places to run: the Colab notebook's own cells, what the Dockerfile copies, and a host with a login."""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import types
import urllib.parse
from pathlib import Path

import pytest

from tests.serving import ROOT, app_environment, free_port, start_app, stop_app


@pytest.mark.slow
def test_the_colab_notebook_starts_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = json.loads((ROOT / "colab.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    port, windows = free_port(), []
    output = types.SimpleNamespace(serve_kernel_port_as_window=windows.append)
    # Colab's own, which is nowhere else.
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.setattr(os, "environ", app_environment(tmp_path / "runs", PIP_CONSTRAINT=str(ROOT / "constraints.txt")))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in cells:
        code = code.replace("https://huggingface.co/spaces/USER/NAME", ROOT.as_uri()).replace("7860", str(port))
        try:
            exec(compile(code, "colab.ipynb", "exec"), names)
        except Exception:
            if "app" in names:
                names["app"].kill()  # type: ignore[attr-defined]
            raise
    assert windows == [port], "the window was not opened"
    assert names["app"].wait(20) is not None  # type: ignore[attr-defined]


def test_the_dockerfile_copies_what_is_there() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY"):
            for name in line.split()[2:-1]:
                assert (ROOT / name).exists(), name
    settings = dict(re.findall(r"^\s*(?:ENV )?([A-Z_]+)=(\S+)", "\n".join(lines), re.MULTILINE))
    assert settings["GRADIO_SERVER_NAME"] == "0.0.0.0" and settings["QLORA_DEMO_HOME"].startswith("/data")
    assert "USER user" in lines, "the app must not be root"


def test_a_login_shuts_everything(tmp_path: Path) -> None:
    app = start_app(tmp_path / "runs", tmp_path / "log", QLORA_DEMO_AUTH="reader:s3cret:with colon", HF_HUB_OFFLINE="1")
    try:
        address = urllib.parse.urlsplit(app.url).netloc

        def ask(method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, str]:
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.request(method, path, body.encode(), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text, cookie = answer.read().decode(errors="replace"), answer.getheader("Set-Cookie") or ""
            connection.close()
            return answer.status, text, cookie

        question = json.dumps({"data": ["Works well.", "sample"]})
        for method, path, body in (
            ("GET", "/config", ""),
            ("GET", "/gradio_api/info", ""),
            ("POST", "/gradio_api/call/classify", question),
            ("POST", "/gradio_api/run/classify", question),
            ("POST", "/gradio_api/queue/join", question),
            ("POST", "/gradio_api/component_server/", "{}"),
            ("POST", "/gradio_api/upload", ""),
        ):
            assert ask(method, path, body)[0] == 401, path
        # Its tools ask the app without a login and would only fail.
        assert ask("GET", "/gradio_api/mcp/schema")[0] in (401, 404)
        assert ask("POST", "/gradio_api/mcp/", "{}")[0] in (401, 404, 405)

        form = {"Content-Type": "application/x-www-form-urlencoded"}
        login = {"username": "reader", "password": "guess"}
        assert ask("POST", "/login", urllib.parse.urlencode(login), **form)[0] == 400
        login["password"] = "s3cret:with colon"
        status, _, cookie = ask("POST", "/login", urllib.parse.urlencode(login), **form)
        assert status == 200 and cookie
        assert ask("GET", "/config", "", Cookie=cookie.partition(";")[0])[0] == 200
    finally:
        stop_app(app)
