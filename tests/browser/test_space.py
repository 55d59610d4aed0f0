"""The app as a Space runs it: the files that `make space` uploads, its variables, a user without powers, a home that is
read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from qlora_demo.hub.space import uploaded_files
from tests.serving import NOBODY, ROOT, SPACE, App, start_here, stop_app

pytestmark = pytest.mark.browser
# A Space's user is not root. Another user may not reach this Python here, so root goes without its powers: what is
# read-only stays so.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
# The host is ours: a test listens on this machine alone.
VARIABLES = {**SPACE, "HF_ENDPOINT": NOBODY, "GRADIO_SERVER_NAME": "127.0.0.1"}


@pytest.fixture(params=["with spaces", "without spaces"])
def space(request: pytest.FixtureRequest) -> Iterator[App]:
    place = Path(tempfile.mkdtemp(prefix="space-"))
    home, scratch, hidden = place / "home", place / "tmp", place / "hidden"
    app = home / "app"
    for name in uploaded_files():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, app / name)
    scratch.mkdir()
    hidden.mkdir()
    if request.param == "without spaces":
        (hidden / "spaces.py").write_text("raise ImportError('as where it is not installed')\n")
    else:
        import spaces  # noqa: F401 - it is there, else both would be the same
    for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    place.chmod(0o755)
    scratch.chmod(0o777)
    log = place / "log"
    # As many threads as the other tests' processes have: a team of two beside them waits for its own members.
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", VARIABLES["CPU_CORES"])}
    places = {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": str(hidden), "PATH": os.environ["PATH"]}
    env = {**VARIABLES, **threads, **places}
    started = start_here(app, scratch / "qlora-demo" / "runs", log, env, POWERLESS if os.getuid() == 0 else ())
    try:
        yield started
    finally:
        stop_app(started)
        # Gradio's own reloader, which is on in a Space, leaves event loops behind, and Python says so.
        assert "qlora_demo/" not in log.read_text(), log.read_text()
        for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        shutil.rmtree(place)


def import_gradio_seconds() -> float:
    """How long Gradio alone takes to be imported, on this machine and beside what else it does now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.monotonic() - began


@pytest.mark.slow
def test_the_app_as_a_space(space: App, browser: Browser) -> None:
    if space.up_seconds >= 10:  # seconds of a common machine (benchmarks/cpu.md); of another, its own measure
        assert space.up_seconds < 3 * import_gradio_seconds(), f"The first answer took {space.up_seconds:.1f} s"
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    # The bar above a Space's page is Gradio's own, with fonts and pictures of others.
    page.route(lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")), lambda route: route.abort())
    page.goto(space.url)
    expect(page.locator("#header-machine")).to_contain_text("vanish when this Space restarts", timeout=60_000)
    page.click("#memory-measure")
    expect(page.locator("#memory-figure")).to_contain_text("as predicted, to the byte", timeout=180_000)

    page.get_by_role("tab", name="Train").click()
    expect(page.get_by_role("link", name="Duplicate this Space")).to_have_attribute(
        "href", "https://huggingface.co/spaces/tester/qlora?duplicate=true"
    )
    page.locator("#train-preset input").click()
    page.get_by_role("option", name="Smoke test").click()
    expect(page.locator("#train-max-steps input").first).to_have_value("10")
    page.click("#train-start")
    expect(page.locator("#train-preset")).to_contain_text("Shows within seconds that everything works")
    expect(page.locator("#train-status")).to_have_text("done", timeout=400_000)
    expect(page.locator('[data-fact="step"]')).to_have_text("10 of 10")

    page.get_by_role("tab", name="Classify").click()
    page.fill("#classify-review textarea", "I love this product, it is perfect!")
    expect(page.locator("#classify-stars")).to_contain_text("4.", timeout=60_000)

    page.get_by_role("tab", name="Publish").click()
    expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible()
    page.close()
    assert faults == []


def test_what_is_uploaded() -> None:
    names = uploaded_files()
    assert {"app.py", "README.md", "requirements.txt", "assets/adapter/adapter_model.safetensors"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".ci/", "runs/"))]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    everything = listed.stdout.split("\n")
    assert set(names) <= set(everything)
