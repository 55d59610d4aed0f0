"""The app as a user starts it, in a process of its own."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OWN = "QLORA_DEMO_OFFLINE QLORA_DEMO_PUBLIC QLORA_DEMO_AUTH QLORA_DEMO_SAMPLE_MODEL"
DROPPED = ("HF_HUB_OFFLINE", "HF_TOKEN", *_OWN.split())
NOBODY = "http://127.0.0.1:9"  # where nothing listens: what needs no Hub must not wait for one
# What huggingface.co/docs/hub/spaces-overview lists, and spaces-oauth.
_SPACE = f"""SYSTEM=spaces SPACE_ID=tester/qlora SPACE_HOST=tester-qlora.hf.space SPACE_AUTHOR_NAME=tester
SPACE_REPO_NAME=qlora SPACE_TITLE=QLoRA SPACE_CREATOR_USER_ID={"0" * 24} ACCELERATOR=none CPU_CORES=2 MEMORY=16Gi
OAUTH_CLIENT_ID=00000000-0000-0000-0000-000000000000 OAUTH_CLIENT_SECRET=no-secret OPENID_PROVIDER_URL={NOBODY}"""
SPACE = dict(pair.split("=", 1) for pair in _SPACE.split()) | {"OAUTH_SCOPES": "openid profile contribute-repos"}


@dataclass(frozen=True)
class App:
    """A running app. `home`: where its runs lie; `log`: what it prints; `up_seconds`: from the start of the process to
    the first page."""

    url: str
    home: Path
    log: Path
    process: subprocess.Popen[str]
    up_seconds: float


def free_port() -> int:
    """Below those that the system hands out by itself: the app needs seconds to take it, and many tests run side by
    side."""
    while True:
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def app_environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return {**kept, "QLORA_DEMO_HOME": str(home), "HF_HOME": str(home / ".hf"), **more}


def start_app(home: Path, log: Path, **environment: str) -> App:
    return start_here(ROOT, home, log, app_environment(home, **environment))


def start_here(root: Path, home: Path, log: Path, env: dict[str, str], through: Sequence[str] = ()) -> App:
    """The app whose app.py lies in `root`, in exactly this environment and a port; `through`: a command that starts
    it."""
    port, began = free_port(), time.monotonic()
    env = {**env, "GRADIO_SERVER_PORT": str(port)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [*through, sys.executable, "app.py"], cwd=root, env=env, stdout=output, stderr=output, text=True
        )
    url = f"http://127.0.0.1:{port}/"
    while time.monotonic() - began < 180:  # a machine may be busy
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
            return App(url, home, log, process, time.monotonic() - began)
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"The app did not come up:\n{log.read_text()}")


def ask(app: App, endpoint: str, *values: Any, wait: bool = True) -> Any:
    """The app's answer over HTTP; where it breaks off, whether the app has ended and what it printed."""
    try:
        return _ask(app, endpoint, *values, wait=wait)
    except OSError as error:
        time.sleep(1)  # a process that is ending lets go of its connections first
        ended, printed = app.process.poll(), app.log.read_text()[-4000:]
        raise AssertionError(
            f"{endpoint}: {error!r}; the app has ended with {ended} and printed:\n{printed}"
        ) from error


def _ask(app: App, endpoint: str, *values: Any, wait: bool) -> Any:
    address = f"{app.url}gradio_api/call/{endpoint}"
    request = urllib.request.Request(
        address, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        number = json.load(answer)["event_id"]
    if not wait:
        return None
    with urllib.request.urlopen(f"{address}/{number}", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    if "event: complete" not in lines:
        raise AssertionError(f"The app answered {endpoint} with {lines}")
    return json.loads(lines[lines.index("event: complete") + 1].removeprefix("data: "))[0]


def stop_app(app: App) -> None:
    app.process.terminate()
    app.process.wait(20)
