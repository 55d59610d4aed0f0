"""Publish from the page to a local Hub: looked at, sent, asked before it is replaced, loaded back by its name; packed
and merged."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
from itsdangerous import TimestampSigner
from playwright.sync_api import Browser, Page, expect

from tests.browser.waiting import Open
from tests.hub_server import TOKEN, USER, HubServer
from tests.serving import SPACE, App, start_app, stop_app

pytestmark = pytest.mark.browser


@pytest.fixture
def page(hub_app: App, open_page: Open) -> Page:
    opened = open_page(hub_app.url)
    opened.get_by_role("tab", name="Publish").click()
    expect(opened.locator("#publish-account")).to_contain_text(f"Publishes as {USER}", timeout=60_000)
    return opened


def send(page: Page, name: str) -> None:
    page.fill("#publish-repo textarea, #publish-repo input", name)
    page.click("#publish-send")


def test_every_file_is_looked_at_first(page: Page, hub: HubServer) -> None:
    before = len(hub.requests)
    page.click("#publish-look")
    expect(page.locator("#publish-files tbody tr")).not_to_have_count(0)
    names = page.locator("#publish-files tbody code").all_inner_texts()
    assert {"README.md", "adapter_model.safetensors", "report.json", "train.py"} <= set(names)
    expect(page.locator("#publish-content h1")).to_contain_text("Star ratings by QLoRA")
    assert page.locator("#publish-content img").evaluate_all(
        "them => them.length && them.every(it => it.naturalWidth > 0)"
    )
    page.locator("#publish-file input").click()
    page.get_by_role("option", name="adapter_model.safetensors").click()
    expect(page.locator("#publish-content")).to_contain_text("holds numbers")
    asked = [request.path for request in hub.requests[before:]]
    assert not [path for path in asked if "repos/create" in path or "/commit/" in path], "something was sent by looking"


def test_publish_replace_and_load_back(page: Page, hub_app: App, hub: HubServer) -> None:
    send(page, "nobody")
    expect(page.locator("#publish-status")).to_contain_text("user/name")
    send(page, f"{USER}/stars")
    expect(page.locator("#publish-status")).to_contain_text("Published:", timeout=60_000)
    first = hub.repos["models", f"{USER}/stars"].head

    page.locator("#publish-licence input").click()  # another card: other content
    page.get_by_role("option", name="apache-2.0").click()
    send(page, f"{USER}/stars")
    expect(page.locator("#publish-ask")).to_contain_text("holds a model already", timeout=60_000)
    assert hub.repos["models", f"{USER}/stars"].head == first, "it was replaced without asking"
    page.click("#publish-replace")
    expect(page.locator("#publish-status")).to_contain_text("Published:", timeout=60_000)
    assert hub.repos["models", f"{USER}/stars"].head != first

    page.get_by_role("tab", name="Classify").click()
    box = page.locator("#classify-adapter input")
    box.fill(f"{USER}/stars")
    box.press("Enter")
    page.fill("#classify-review textarea", "I love this product, it is perfect!")
    deadline = time.monotonic() + 60
    while not any("adapter_model.safetensors" in path for path in hub.paths()):
        assert time.monotonic() < deadline, "it was not fetched"
        page.wait_for_timeout(200)
    # In so many ms, or at once where another event asked first.
    expect(page.locator("#classify-certainty")).to_contain_text("nswer", timeout=60_000)
    expect(page.locator("#classify-stars")).to_contain_text("4.")


def test_a_refusal_is_one_sentence_and_a_retry_goes_through(page: Page, hub: HubServer) -> None:
    hub.fail_next("/commit/", 403)
    send(page, f"{USER}/again")
    expect(page.locator("#publish-status")).to_contain_text("Your token may not write", timeout=60_000)
    send(page, f"{USER}/again")
    expect(page.locator("#publish-status")).to_contain_text("Published:", timeout=60_000)


def check_zip(page: Page, app: App, link: str, wanted: str) -> None:
    with urllib.request.urlopen(app.url + str(page.locator(link).get_attribute("href")), timeout=60) as answer:
        packed = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert wanted in packed.namelist() and packed.testzip() is None


def test_a_zip_to_take_along(page: Page, hub_app: App) -> None:
    page.get_by_role("button", name="Take it with you").click()
    page.click("#publish-zip")
    expect(page.locator("#publish-packed a")).to_be_visible(timeout=60_000)
    check_zip(page, hub_app, "#publish-packed a", "adapter_model.safetensors")


@pytest.mark.slow
def test_a_merged_model_to_take_along(page: Page, hub_app: App) -> None:
    page.get_by_role("button", name="Take it with you").click()
    page.click("#publish-merge")
    expect(page.locator("#publish-merged")).to_contain_text("Largest difference of a logit", timeout=300_000)
    check_zip(page, hub_app, "#publish-merged a", "model.safetensors")


@pytest.mark.parametrize("expired", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_visitor_of_a_space_publishes_as_themselves(
    hub: HubServer, browser: Browser, tmp_path: Path, expired: bool
) -> None:
    """By the token of their login, never by the Space's own; the session is the one that Gradio keeps after a login,
    signed as it signs."""
    spaces_own, secret = "hf_" + "s" * 34, "a secret"
    own = {"SPACE_ID": "owner/space", "OAUTH_CLIENT_SECRET": secret, "HF_TOKEN": spaces_own, "HF_ENDPOINT": hub.url}
    app = start_app(tmp_path / "runs", tmp_path / "log", **{**SPACE, **own, "HF_HUB_DISABLE_XET": "1"})
    name, before = f"{USER}/from-a-space-{expired}", len(hub.requests)
    who = {"name": "Tester", "preferred_username": USER, "profile": f"https://huggingface.co/{USER}", "picture": ""}
    until = time.time() + (-60 if expired else 3600)
    login = {"access_token": TOKEN, "scope": SPACE["OAUTH_SCOPES"], "expires_at": until, "userinfo": who}
    signer = TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest())
    session = signer.sign(base64.b64encode(json.dumps({"oauth_info": login}).encode())).decode()
    try:
        context = browser.new_context()
        context.add_cookies([{"name": "session", "value": session, "url": app.url}])
        page = context.new_page()
        page.route(lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")), lambda route: route.abort())
        page.goto(app.url)
        page.get_by_role("tab", name="Publish").click()
        expect(page.locator("#publish-account")).to_contain_text(
            "Sign in" if expired else f"Publishes as {USER}", timeout=60_000
        )
        send(page, name)
        told = "your login has expired; sign in above" if expired else "Published:"
        expect(page.locator("#publish-status")).to_contain_text(told, timeout=60_000)
        assert (("models", name) in hub.repos) is not expired
        context.close()
    finally:
        stop_app(app)
    used = {request.headers.get("authorization") for request in hub.requests[before:]}
    assert used <= {None, f"Bearer {TOKEN}"}, "the Space's own token was used"
    assert spaces_own not in (tmp_path / "log").read_text() and TOKEN not in (tmp_path / "log").read_text()


def test_it_fits_a_phone_in_the_dark(hub_app: App, open_page: Open) -> None:
    page = open_page(hub_app.url, 390, 844, "dark")
    page.get_by_role("tab", name="Publish").click()
    page.click("#publish-look")
    expect(page.locator("#publish-content h1")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
