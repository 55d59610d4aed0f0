"""Publishing to a local Hub: one whole model or none, nothing of others' overwritten, and one sentence for all that can
go wrong."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from qlora_demo.core.errors import HubError
from qlora_demo.hub import publish as publishing
from qlora_demo.hub import space
from qlora_demo.hub.publish import Published, publish
from qlora_demo.hub.space import ROOT, upload_space, uploaded_files
from tests.hub_access import point_to
from tests.hub_files import Commit, Refusal
from tests.hub_server import TOKEN, USER, HubServer
from tests.hub_writes import check_card

REPO = f"{USER}/stars"
CARD = "---\nlibrary_name: peft\nlicense: mit\ntags:\n- qlora\n---\n\n# Stars\n"
WEIGHTS_BYTES = 2_000_000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        point_to(server.url, tmp_path, monkeypatch)
        monkeypatch.setattr(publishing, "WAITS_SECONDS", (0.01, 0.01))
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make(tmp_path / "model")


def make(folder: Path, fill: bytes = b"a", **files: str) -> Path:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(fill * WEIGHTS_BYTES)
    for name, content in {"README.md": CARD, "qlora_demo.json": "{}", **files}.items():
        (folder / name).write_text(content)
    return folder


def send(folder: Path, repo: str = REPO, token: str | None = TOKEN, **options: Any) -> Published:
    return publish(folder, repo, token=token, **options)


def content(hub: HubServer, repo: str = REPO, branch: str = "main") -> dict[str, bytes]:
    """What lies in the repository, but for what the Hub put there."""
    files = hub.repos["models", repo].commit(branch).files
    return {name: file.source.read_bytes() for name, file in files.items() if name != ".gitattributes"}


def here(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refuse(words: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """It is refused in one sentence, with these words and no secret, address or path."""
    with pytest.raises(HubError) as error:
        call(*arguments, **options)
    text = str(error.value)
    assert words in text and text.endswith(".") and "\n" not in text and text.count(". ") == 0
    for secret in (TOKEN, "hf_", "127.0.0.1", "http", "/tmp", "Signature"):
        assert secret not in text
    assert error.value.__cause__ is None and error.value.__suppress_context__


class TestWhatIsPublished:
    def test_all_files_come_in_one_commit(self, hub: HubServer, model: Path) -> None:
        told: list[tuple[str, float | None]] = []
        found = send(model, on_progress=lambda text, share: told.append((text, share)))
        assert content(hub) == here(model)
        repo = hub.repos["models", REPO]
        assert (found.url, found.commit) == (f"{hub.url}/{REPO}", repo.head)
        assert set(found.files) == set(here(model))
        assert len(repo.commits) == 2 and repo.commit("main").title == publishing.MESSAGE, "the Hub's own, and ours"
        assert repo.private is False
        assert any("of 1.91 MiB sent" in text for text, _ in told) and told[-1] == (f"{REPO}: published", 1.0)
        assert TOKEN not in str(told)

    def test_the_token_goes_to_the_hub_alone(self, hub: HubServer, model: Path) -> None:
        send(model)
        stored = [request for request in hub.requests if request.path.startswith("/cdn/")]
        assert stored and all("authorization" not in request.headers for request in stored)

    def test_private_or_public_as_it_was_at_first(self, hub: HubServer, model: Path) -> None:
        send(model, private=True)
        assert hub.repos["models", REPO].private
        other = make(model.parent / "two", b"b")
        send(other, private=True, replace=True)
        send(model, f"{USER}/public")
        refuse("is public already", send, other, f"{USER}/public", private=True, replace=True)

    def test_the_same_twice_is_one_commit(self, hub: HubServer, model: Path) -> None:
        assert send(model) == send(model)
        assert hub.paths("POST").count(f"/api/models/{REPO}/commit/main") == 1

    def test_a_branch_leaves_main_alone(self, hub: HubServer, model: Path) -> None:
        send(model)
        other = make(model.parent / "other", b"b")
        found = send(other, revision="seed-2")
        assert content(hub) == here(model) and content(hub, branch="seed-2") == here(other)
        assert found.url == f"{hub.url}/{REPO}/tree/seed-2"
        refuse("--replace", send, make(model.parent / "third", b"c"), revision="seed-2")

    def test_an_organisation_that_may_be_written_to(self, hub: HubServer, model: Path) -> None:
        hub.orgs[USER] = {"shop": "write"}
        send(model, "shop/stars")
        assert content(hub, "shop/stars") == here(model)

    def test_the_local_hub_takes_the_card_as_the_real_one_does(self, hub: HubServer) -> None:
        ModelCard(CARD).validate()
        for bad in ("license: no-such", "tags: qlora", "model-index: [{name: a}]", "library_name: [peft]"):
            errors, _ = check_card(f"---\n{bad}\n---\n", "model")
            assert len(errors) == 1 and f'"{bad.partition(":")[0]}' in errors[0]


class TestWhatIsLeftAlone:
    def test_a_model_of_somebody_elses_making(self, hub: HubServer, model: Path) -> None:
        hub.add_model(REPO, make(model.parent / "theirs", b"t"), readers=[USER])
        before = hub.repos["models", REPO].commit("main").files
        del before["qlora_demo.json"]
        for replace in (False, True):
            refuse("has not published and leaves alone", send, model, replace=replace)
        assert hub.repos["models", REPO].commit("main").files is before and len(hub.repos["models", REPO].commits) == 1

    def test_an_earlier_model_of_this_app_unless_told(self, hub: HubServer, model: Path) -> None:
        send(make(model.parent / "old", b"o", **{"stale.json": "{}"}))
        before = content(hub)
        refuse("holds a model already", send, model)
        assert content(hub) == before
        send(model, replace=True)
        assert content(hub) == here(model), "nothing of the old one is left"

    def test_what_changes_meanwhile(self, hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        send(make(model.parent / "old", b"o"))
        upload = publishing._upload

        def slow(*arguments: Any) -> Any:
            found = upload(*arguments)
            repo = hub.repos["models", REPO]
            files = {**repo.commit("main").files}
            files.pop("README.md")
            repo.add(Commit(Commit.name(files, "meanwhile"), files))
            return found

        monkeypatch.setattr(publishing, "_upload", slow)
        refuse("changed by somebody else", send, model, replace=True)


class TestRetries:
    @pytest.mark.parametrize(
        "place", ["/api/whoami-v2", "/api/repos/create", f"/api/models/{REPO}/commit/", "/api/validate-yaml"]
    )
    @pytest.mark.parametrize("failure", ["drop", "lost", 503, 429])
    def test_what_passes_is_tried_again(self, hub: HubServer, model: Path, place: str, failure: int | str) -> None:
        hub.fail_next(place, failure)
        send(model)
        assert content(hub) == here(model)
        titles = [commit.title for commit in hub.repos["models", REPO].commits.values()]
        assert titles.count(publishing.MESSAGE) == 1, "a commit whose answer was lost is not made twice"

    def test_a_cut_in_the_middle_of_a_file_whose_signed_address_stays_out_of_the_log(
        self, hub: HubServer, model: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub.fail_next("/cdn/upload/", "cut", after=500_000)
        with caplog.at_level(logging.DEBUG):
            send(model)
        assert content(hub) == here(model) and len(hub.paths("PUT")) == 2
        assert TOKEN not in caplog.text
        warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert not any("Signature" in text for text in warned)

    def test_after_a_failure_the_retry_goes_on_in_the_empty_repository(self, hub: HubServer, model: Path) -> None:
        hub.fail_next("/commit/", 500, times=3)
        refuse("status 500", send, model)
        assert content(hub) == {}
        hub.reset()
        send(model)
        assert content(hub) == here(model)
        assert hub.paths("PUT") == [], "what has arrived is not sent twice"

    def test_a_stop_leaves_nothing_published(self, hub: HubServer, model: Path) -> None:
        hub.throttle(400_000)
        stop = threading.Event()
        began = time.monotonic()

        def watch(text: str, share: float | None) -> None:
            if share and share > 0.1:
                stop.set()

        refuse("nothing was published", send, model, on_progress=watch, should_stop=stop.is_set)
        assert time.monotonic() - began < 4
        time.sleep(0.5)
        assert content(hub) == {}
        hub.reset()
        send(model)
        assert content(hub) == here(model)


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["te ster/x", *f"stars a/b/c /stars t/ t/a--b t/.x t/x.git a/{'b' * 97}".split(), ""]
    )
    def test_names(self, hub: HubServer, model: Path, name: str) -> None:
        with pytest.raises(HubError, match="is no name for a repository"):
            send(model, name)
        assert hub.requests == []

    @pytest.mark.parametrize("branch", ["../x", "refs/pr/1", "a b", "x.lock", "a//b", "-x"])
    def test_branches(self, hub: HubServer, model: Path, branch: str) -> None:
        with pytest.raises(HubError, match="no name for a branch"):
            send(model, revision=branch)
        assert hub.requests == []

    def test_no_token(self, hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the process has one: a Space must not publish for its visitors with its own."""
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(HubError, match="hf auth login"):
            send(model, token=None)
        assert hub.requests == []

    def test_tokens(self, hub: HubServer, model: Path) -> None:
        hub.tokens |= {"hf_old": USER, "hf_reader": USER}
        hub.roles |= {"hf_old": "expired", "hf_reader": "read"}
        told = {"hf_wrong": "does not know your token", "hf_old": "has expired", "hf_reader": "may only read"}
        for token, words in told.items():
            refuse(words, send, model, token=token)
        assert hub.repos == {}

    def test_places_that_are_taken_or_full(self, hub: HubServer, model: Path) -> None:
        hub.orgs[USER] = {"shop": "read"}
        hub.add_model(f"{USER}/hidden", make(model.parent / "hidden"), private=True, readers=["friend"])
        hub.quota_bytes = 1_000_000
        (model.parent / "none").mkdir()
        for name, words in (
            ("friend/stars", "is neither you"),
            ("shop/stars", "may not write"),
            (f"{USER}/hidden", "is taken"),
            (REPO, "no room"),
        ):
            refuse(words, send, model, name)
        assert content(hub) == {}
        with pytest.raises(HubError, match="nothing to publish"):
            send(model.parent / "none")

    @pytest.mark.parametrize(
        ("failure", "words"),
        [
            (413, "too large"),
            (402, "payment"),
            (500, "status 500"),
            (429, "a pause"),
            ("drop", "connection to the Hub failed"),
            (Refusal(403, "", "Forbidden: not with this scope"), "may not write"),
            (Refusal(418, "", "a teapot"), "status 418"),
        ],
    )
    def test_each_other_failure(self, hub: HubServer, model: Path, failure: Any, words: str) -> None:
        hub.fail_next("/commit/", failure, times=9)
        refuse(words, send, model)
        assert content(hub) == {}

    @pytest.mark.parametrize(("place", "after"), [("/api/whoami-v2", None), ("/commit/", None), ("/cdn/upload/", 1000)])
    def test_silence(
        self, hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch, place: str, after: int | None
    ) -> None:
        for name in ("ANSWER_SECONDS", "COMMIT_SECONDS", "STALL_SECONDS"):
            monkeypatch.setattr(publishing, name, 0.5)
        hub.fail_next(place, "hang", after=after)
        refuse("did not answer in time", send, model)
        assert ("models", REPO) not in hub.repos or content(hub) == {}

    def test_no_network(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        point_to("http://127.0.0.1:9", tmp_path, monkeypatch)
        monkeypatch.setattr(publishing, "WAITS_SECONDS", (0.01, 0.01))
        refuse("connection to the Hub failed", send, model)

    def test_offline_mode(self, hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
        with pytest.raises(HubError, match="offline mode"):
            send(model)
        monkeypatch.delenv("QLORA_DEMO_OFFLINE")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match="offline mode"):
            send(model)
        assert hub.requests == []

    def test_a_card_that_the_hub_does_not_take(self, hub: HubServer, model: Path) -> None:
        (model / "README.md").write_text("---\nlicense: my-own\n---\n")
        refuse("metadata are not valid", send, model)
        assert hub.repos == {}, "nothing is created for it"

    def test_a_file_that_goes_away(self, hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        claim = publishing._claim

        def losing(*arguments: Any) -> Any:
            (model / "adapter_model.safetensors").unlink()
            return claim(*arguments)

        monkeypatch.setattr(publishing, "_claim", losing)
        refuse("cannot be read", send, model)

    def test_links_are_not_followed(self, hub: HubServer, model: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(json.dumps({"token": "x"}))
        (model / "link.json").symlink_to(tmp_path / "secret")
        assert "link.json" not in send(model).files


class TestSpaces:
    """A Space's refusals are worded as a model's; that it is uploaded whole is shown elsewhere."""

    @pytest.mark.parametrize(
        ("failure", "words"), [(Refusal(403, "", "Forbidden"), "may not write"), (401, "does not know your token")]
    )
    def test_a_space_that_is_not_taken(
        self, hub: HubServer, monkeypatch: pytest.MonkeyPatch, failure: Any, words: str
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.fail_next("/api/repos/create", failure)
        refuse(words, upload_space, f"{USER}/demo")

    def test_the_app_becomes_a_space(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # which the tests' Hub does not speak
        assert upload_space(f"{USER}/app").endswith(f"/spaces/{USER}/app")
        commit = hub.repos["spaces", f"{USER}/app"].commit("main")
        assert set(uploaded_files()) == set(commit.files) - {".gitattributes"}
        assert commit.files["app.py"].source.read_bytes() == (ROOT / "app.py").read_bytes()
        asked = next(json.loads(request.told[0]) for request in hub.requests if request.path == "/api/repos/create")
        assert asked["sdk"] == "gradio" and asked["hardware"] == "zero-a10g"

        fewer = ["app.py", "README.md", space.MARK]  # an older version had more
        monkeypatch.setattr(space, "uploaded_files", lambda: fewer)
        upload_space(f"{USER}/app")
        assert set(hub.repos["spaces", f"{USER}/app"].commit("main").files) == {*fewer, ".gitattributes"}

    def test_another_space_is_left_alone(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(space, "MARK", "something/else.py")
        upload_space(f"{USER}/theirs")
        before = hub.repos["spaces", f"{USER}/theirs"].head
        with pytest.raises(HubError, match="another Space already, which is left alone"):
            upload_space(f"{USER}/theirs")
        assert hub.repos["spaces", f"{USER}/theirs"].head == before
        with pytest.raises(HubError, match="no hardware of a Space; choose one of"):
            upload_space(f"{USER}/theirs", "supercomputer")

    def test_no_name_and_no_login(self, hub: HubServer) -> None:
        for name, words in (("demo", "no name for a repository"), (f"{USER}/demo", "hf auth login")):
            with pytest.raises(HubError, match=words):
                upload_space(name)
        assert hub.requests == []
