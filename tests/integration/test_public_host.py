"""Two visitors of a public host: whose a run is, what others see of it, and the limits that both are told; at home none
of this holds."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DataError, DeviceError, HubError, RunError, SettingsError
from qlora_demo.core.memory_report import MemoryReport
from qlora_demo.core.records import Notice, Phase, Probe
from qlora_demo.core.requests import ClassifyRequest, DataRequest, MemoryRequest
from qlora_demo.host import limits
from qlora_demo.host.host import SWEEP_SECONDS, Host, Started
from qlora_demo.jobs.state import read_state, write_state
from qlora_demo.jobs.store import EventWriter, Job, Store
from qlora_demo.services.app import Services
from qlora_demo.storage import packs, uploads
from qlora_demo.ui.handlers import visitor
from qlora_demo.ui.train.evaluation_report import find_overview, find_reviews
from qlora_demo.ui.train.live_plot import news
from tests.reviews import write_reviews

PINNED = "A pinned review that is nobody's business"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    # No worker starts, but this process counts as one: what is tested is what the app does itself.
    return Services(Store(tmp_path / "runs"), public=True, launch=lambda folder: os.getpid())


def end(job: Job) -> None:
    stored = read_state(job.folder)
    assert stored is not None
    write_state(job.folder, replace(stored, state="done", ended=stored.created + 1))


def own_run(services: Services, tmp_path: Path) -> Started:
    """A run of an uploaded file that has come to its end, as its worker would have left it."""
    kept = uploads.keep(write_reviews(tmp_path / "turnover.jsonl", 3), services.store.home)
    config = RunConfig(data=uploads.name_of(str(kept), services.store.home), max_steps=5, pinned=(PINNED,))
    started = services.train.start(config, "1.1.1.1")
    job = services.store.job(started.run)
    writer = EventWriter(job.folder)
    writer.write(Phase("loading the reviews", f"turnover.jsonl from {kept}", steps=5))
    writer.write(Probe(0, PINNED, {"1 star": 0.5, "2 stars": 0.5}))
    writer.write(Notice(f"{kept} has few reviews."))
    answer = '{"split": "test", "text": "A text of my own", "label": 0, "guess": 1, "probabilities": [0.4, 0.6]}\n'
    (job.folder / "answers.jsonl").write_text(answer)
    end(job)
    return started


def test_what_visitors_sent_goes_after_a_day(services: Services, tmp_path: Path) -> None:
    kept = uploads.keep(write_reviews(tmp_path / "mine.jsonl", 3), services.store.home)
    job = services.store.create("classify", {"file": str(kept), "adapter": "sample"})
    (job.folder / "predictions.jsonl").write_text("{}\n")
    end(job)
    training = services.store.create("train", RunConfig().to_dict())
    end(training)
    pack = services.publish.pack("sample")
    services.host.sweep()
    assert kept.exists() and job.folder.exists() and packs.find_pack(services.store.home, pack.place, pack.name)
    day = 24 * 3600
    services.host.public = False
    services.host.sweep(time.time() + day + 60)
    assert job.folder.exists(), "at home results stay"
    services.host.public = True
    services.host.sweep(time.time() + day + 60)
    assert not job.folder.exists() and not kept.exists() and training.folder.exists()
    assert packs.find_pack(services.store.home, pack.place, pack.name) is None


def test_others_watch_without_pinned_reviews_and_without_names_of_uploads(services: Services, tmp_path: Path) -> None:
    mine = own_run(services, tmp_path)
    ask = {"run": mine.run, "after": 0, "born": ""}
    other, owner = news(services, ask), news(services, {**ask, "key": mine.key})
    assert owner["pinned"] == [[0, PINNED, ["1 star", "2 stars"]]]
    assert owner["phase"]["detail"].startswith("turnover.jsonl")
    assert other["pinned"] == other["scorings"] == [] and other["phase"]["detail"].startswith("an uploaded file")
    told = services.train.report(mine.run)
    assert told["data"] == "an uploaded file" and [event["event"] for event in told["events"]] == ["phase", "warning"]
    for text in (str(other), str(told), str(services.train.runs()), str(services.classify.adapters())):
        assert PINNED not in text and "turnover" not in text and str(tmp_path) not in text
    # A page that hears of its key after its first answer is told everything anew.
    late = news(services, {**ask, "after": other["after"], "born": other["born"], "key": mine.key})
    assert late["fresh"] and late["pinned"]
    again = news(services, {**ask, "after": late["after"], "born": late["born"], "key": mine.key})
    assert not again["fresh"] and not again["pinned"]


def test_reviews_of_an_upload_are_listed_for_their_owner_alone(services: Services, tmp_path: Path) -> None:
    mine = own_run(services, tmp_path)
    asked = {"run": mine.run, "split": "test", "after": 0}
    assert find_reviews(services, {**asked, "key": mine.key})["reviews"][0]["text"] == "A text of my own"
    assert "only who started the run" in find_reviews(services, asked)["error"]
    assert find_overview(services, {**asked, "key": mine.key})["listed"]
    assert not find_overview(services, asked)["listed"]
    # What somebody trains on the sample is everybody's.
    theirs = services.train.start(RunConfig(), "2.2.2.2").run
    assert find_reviews(services, {**asked, "run": theirs}) == {"total": 0, "reviews": []}


def test_who_started_a_run_may_rename_and_delete_it_and_no_one_else(services: Services, tmp_path: Path) -> None:
    mine, theirs = own_run(services, tmp_path), services.train.start(RunConfig(), "2.2.2.2")
    train = services.train
    for key in ("", "guess", theirs.key):
        for change in (train.delete, train.stop, lambda run, key, **_: train.rename(run, "mine now", key)):
            with pytest.raises(RunError, match="key does not belong"):
                change(mine.run, key, at_home=True)
        assert services.train.suggestion(mine.run, key) is None
    services.train.rename(mine.run, "mine", mine.key)
    services.train.delete(mine.run, mine.key)
    assert [run.run for run in services.train.runs()] == [theirs.run]


def test_a_visitor_has_a_few_runs_at_a_time(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [services.train.start(RunConfig(), "1.1.1.1") for _ in range(limits.RUNS_EACH)]
    with pytest.raises(RunError, match=f"You have {limits.RUNS_EACH} runs here that have not ended"):
        services.train.start(RunConfig(), "1.1.1.1")
    services.train.start(RunConfig(), "2.2.2.2")
    services.train.stop(mine[-1].run, mine[-1].key)
    services.train.start(RunConfig(), "1.1.1.1")
    monkeypatch.setattr(limits, "RUNS_IN_ALL", 3)
    with pytest.raises(RunError, match="queued here already"):
        services.train.start(RunConfig(), "3.3.3.3")


def test_all_limits_are_told_at_once_each_beside_its_field(services: Services) -> None:
    beyond = {"max_steps": 10**6, "rank": 256, "max_length": 8192, "rows": 10**6, "evaluations": 1000}
    beyond |= {"model": "/etc", "data": "/etc/passwd", "start_from": "/etc", "pinned": ("x" * 900,)}
    beyond["labels"] = tuple(map(str, range(99)))
    with pytest.raises(SettingsError) as refused:
        services.train.start(RunConfig(**beyond, batch_size=1024))
    assert refused.value.problems.keys() == beyond.keys()
    assert all("n this public page" in sentence for sentence in refused.value.problems.values())
    alone = {"epochs": 100, "model": "Qwen/Qwen3-8B", "revision": "refs/pr/1"}
    cases = [({field: value}, field) for field, value in alone.items()]
    for settings, field in (*cases, ({"data": "amazon-reviews"}, "max_steps")):
        with pytest.raises(SettingsError) as refused:
            services.train.start(RunConfig(**settings))
        assert refused.value.problems.keys() == {field}
    limits.check(RunConfig(), ())
    assert services.train.runs() == []


def test_limits_of_models_files_and_texts(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Larger models are predicted by the shape that the app carries, and never loaded.
    large = MemoryRequest(model="openai-community/gpt2-xl", stages=("fp16",))
    assert services.memory.predict(large).parameters > limits.MODEL_PARAMETERS
    report = MemoryReport(model="m", parameters=1_500_000_000, stages=())
    with pytest.raises(SettingsError, match="700 million parameters"):
        services.memory.start(large, report)
    with pytest.raises(SettingsError, match="has 1,500 million parameters"):
        services.memory.start(MemoryRequest(random_weights=True), report)
    with pytest.raises(SettingsError, match="names 100,000"):
        limits.check_shape("a/b", {"text_config": {"num_hidden_layers": 100_000}})
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 1024**2)
    large_file = tmp_path / "large.csv"
    large_file.write_text("text\n" + "Good.\n" * 400_000)
    with pytest.raises(DataError, match="give one of at most 1 MiB"):
        services.host.keep(large_file)
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 20 * 1024**2)
    kept = services.host.keep(large_file)
    with pytest.raises(DataError, match="20,000 rows to classify"):
        services.files.start(ClassifyRequest(file=kept))
    monkeypatch.setattr(limits, "ALL_UPLOADS_BYTES", 3 * 1024**2)
    with pytest.raises(DataError, match="try again later"):
        services.host.keep(large_file)
    for request in (ClassifyRequest(file="/etc/passwd"), ClassifyRequest(file=kept, adapter="/etc")):
        with pytest.raises(SettingsError):
            services.files.start(request)
    for data in (DataRequest("/etc/passwd"), DataRequest("somebody/bomb", hub=True), DataRequest(str(large_file))):
        with pytest.raises(SettingsError):
            services.data.examine(data)
    with pytest.raises(DataError, match="shorten it"):
        services.classify.classify("x" * 6_000)
    with pytest.raises(SettingsError, match="too many"):
        services.classify.teach("Good.", "5 stars", steps=500)


def test_the_hubs_reviews_can_be_looked_at_without_the_settings_of_a_run(services: Services) -> None:
    with pytest.raises(HubError, match="QLORA_DEMO_OFFLINE"):
        services.needed_downloads(RunConfig(data="amazon-reviews"))
    with pytest.raises(SettingsError, match="the reviews are a file"):
        services.needed_downloads(RunConfig(data="somebody/bomb"))


def test_uploads_go_after_a_day_though_nobody_uploads_any_more(services: Services, tmp_path: Path) -> None:
    services.host.advance()
    kept = Path(services.host.keep(write_reviews(tmp_path / "old.jsonl", 1)))
    os.utime(kept.parent, (0, 0))
    services.host.advance()
    assert kept.exists(), "once an hour is enough"
    services.host._swept -= SWEEP_SECONDS
    services.host.advance()
    assert not kept.exists()


@pytest.mark.parametrize(("space", "asks"), [("spaces", "9.9.9.9"), ("", "10.0.0.1")])
def test_a_visitor_is_an_address_and_on_a_space_the_one_that_the_proxy_saw(
    space: str, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEM", space)
    headers = [(b"x-forwarded-for", b"1.2.3.4, 9.9.9.9")]
    request = Request({"type": "http", "headers": headers, "client": ("10.0.0.1", 5)})
    context = copy_context()
    context.run(LocalContext.request.set, gr.Request(request))
    assert context.run(visitor) == asks and visitor() == ""


def test_a_model_that_is_not_here_does_not_say_whether_a_folder_is(services: Services) -> None:
    """The tokens of a name that is no model of the list are the sample's, whatever lies there."""
    names = ("sample", "/etc", "/nowhere")
    found = [services.data.as_model_sees(DataRequest(), "train", 1, 32, model).ids for model in names]
    assert found[0] == found[1] == found[2]


def test_slow_work_of_others_is_one_sentence(services: Services) -> None:
    host = services.host
    with host.turn("compare"):
        with pytest.raises(DeviceError, match="busy comparing precisions for others"), host.turn("compare"):
            pytest.fail("there was no turn")
        with host.turn("teach"):
            pass
    with host.turn("compare"):
        pass


@pytest.mark.parametrize("action", ["pack", "merge", "publish"])
def test_what_leaves_this_machine_takes_its_turn_too(services: Services, action: str) -> None:
    requests = {
        "pack": lambda: services.publish.pack("sample"),
        "merge": lambda: services.publish.merge("sample"),
        "publish": lambda: services.publish.publish("sample", "somebody/model", token="none"),
    }
    with ExitStack() as others:
        for _ in range(limits.TURNS[action][0]):
            others.enter_context(services.host.turn(action))
        with pytest.raises(DeviceError, match=r"The server is busy .* try again in ten seconds"):
            requests[action]()


def test_at_home_others_wait_for_their_turn(tmp_path: Path) -> None:
    host, order = Host(Store(tmp_path)), []

    def second() -> None:
        with host.turn("compare"):
            order.append("second")

    with host.turn("compare"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_at_home_nothing_of_this_holds(services: Services, tmp_path: Path) -> None:
    services.host.public = False
    data = write_reviews(tmp_path / "mine.jsonl", 3)
    runs = [services.train.start(RunConfig(data=str(data), max_steps=10**6, rank=256)) for _ in range(4)]
    assert news(services, {"run": runs[0].run, "after": 0})["state"]
    services.train.stop(runs[-1].run, "", at_home=True)
    summary = services.train.report(runs[0].run)
    # Programs are told no path on any host.
    assert summary["data"] == "mine.jsonl" and str(tmp_path) not in str(summary)


def test_visitors_train_on_what_they_uploaded_and_on_no_other_file(services: Services, tmp_path: Path) -> None:
    """It goes by a name that tells no path, and the worker finds it all the same."""
    sent, home = write_reviews(tmp_path / "mine.jsonl", 3), services.store.home
    kept = uploads.keep(sent, home)
    name = uploads.name_of(str(kept), home)
    assert name.startswith("upload:") and name.endswith("/mine.jsonl") and str(tmp_path) not in name
    assert uploads.locate(name, home) == str(kept) and uploads.name_of(str(sent), home) == str(sent)
    config = RunConfig(data=name, max_steps=5, labels=("1", "2", "3", "4", "5"), header="found", mend=True)
    assert services.needed_downloads(config) == []
    run = services.train.start(config).run
    assert services.store.job(run).settings()["data"] == str(kept)
    assert services.train.settings(run) == config, "a page shows the name again"
    place = kept.parent.name
    paths = ("../../etc/passwd", "x/mine.jsonl", f"{place}/../../x", "", "/etc/passwd", f"{place}/..")
    for data in (str(sent), *(f"upload:{path}" for path in paths)):
        with pytest.raises(SettingsError, match="the reviews are a file that you upload"):
            services.train.start(config.model_copy(update={"data": data}))
    with pytest.raises(DataError, match="is not kept any more"):
        services.train.start(config.model_copy(update={"data": f"upload:{'0' * 32}/mine.jsonl"}))
