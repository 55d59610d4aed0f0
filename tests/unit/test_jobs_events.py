"""events.jsonl: order, torn lines, and reading only what is new."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qlora_demo.core.records import Notice, Phase
from qlora_demo.jobs import events as events_module
from qlora_demo.jobs.events import EventWriter, last_event, read_events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "20260101-000000-abcd"
    folder.mkdir()
    return folder


def sequence(folder: Path, **options: int) -> list[int]:
    return [record["seq"] for record in read_events(folder / "events.jsonl", **options)]


def test_events_are_numbered_and_carry_their_run(folder: Path) -> None:
    writer = EventWriter(folder)
    written = [writer.write(Phase("load", progress=0.5)), writer.write(Notice("careful"))]
    assert read_events(folder / "events.jsonl") == written
    assert [(event["seq"], event["event"]) for event in written] == [(1, "phase"), (2, "warning")]
    assert {event["run"] for event in written} == {folder.name}
    assert abs(written[0]["time"] - time.time()) < 5
    assert EventWriter(folder).write(Notice("on"))["seq"] == 3, "a new writer counts on"


def test_no_file_holds_no_events(folder: Path) -> None:
    assert sequence(folder) == [] and last_event(folder / "events.jsonl") is None


@pytest.mark.parametrize("torn", [b'{"seq": 3, "event": "ph', b'{"seq": 3, "event": "phase"}', b"\xff\xfe", b"{"])
def test_a_torn_last_line_is_ignored_and_ended_by_the_next_writer(folder: Path, torn: bytes) -> None:
    writer = EventWriter(folder)
    writer.write(Notice("1"))
    writer.write(Notice("2"))
    with (folder / "events.jsonl").open("ab") as file:
        file.write(torn)
    assert sequence(folder) == [1, 2] and sequence(folder, after=1) == [2]
    assert EventWriter(folder).write(Notice("3"))["seq"] == 3
    messages = [record.get("message") for record in read_events(folder / "events.jsonl") if "message" in record]
    assert messages == ["1", "2", "3"]
    assert (folder / "events.jsonl").read_bytes().endswith(b"\n")


def test_after_and_limit(folder: Path) -> None:
    writer = EventWriter(folder)
    for number in range(10):
        writer.write(Notice(str(number)))
    assert sequence(folder, after=7) == [8, 9, 10]
    assert sequence(folder, after=10) == [] and sequence(folder, after=99) == []
    assert sequence(folder, limit=3) == [1, 2, 3]
    assert sequence(folder, after=3, limit=2) == [4, 5]


@pytest.mark.parametrize("block", [1, 50, 333, 1000])
def test_every_block_size_gives_the_same_events(folder: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    writer = EventWriter(folder)
    for number in range(40):
        writer.write(Notice("ä" * number))
    monkeypatch.setattr(events_module, "_BLOCK_BYTES", block)
    for after in range(42):
        assert sequence(folder, after=after) == list(range(after + 1, 41))
    assert last_event(folder / "events.jsonl")["seq"] == 40  # type: ignore[index]


def test_threads_share_one_writer(folder: Path) -> None:
    writer = EventWriter(folder)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: writer.write(Notice("x" * 500)), range(200)))
    assert sequence(folder) == list(range(1, 201))
