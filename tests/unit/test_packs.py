"""Zips and previews: a day and a limit, the oldest first, and never what is still in the making."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from qlora_demo.core.format import GiB
from qlora_demo.host.host import Host
from qlora_demo.jobs.store import Store
from qlora_demo.services.publish import PublishService
from qlora_demo.storage import packs
from qlora_demo.storage.packs import LIMIT, PUBLIC_LIMIT, Limit, finish, new_place, sweep


def test_the_oldest_packs_go_first_and_what_is_in_the_making_stays(tmp_path: Path) -> None:
    def place(age: float, size: int, busy: bool = False) -> Path:
        made = new_place(tmp_path, Limit(99, 1000))
        (made / "x.zip").write_bytes(b"x" * size)
        if not busy:
            finish(made)
        os.utime(made, (now - age, now - age))
        return made

    now = time.time()
    old, making, small, newest = place(400, 100), place(300, 100, busy=True), place(200, 100), place(100, 500)
    assert sweep(tmp_path, now, Limit(4, 800)) == 0
    assert sweep(tmp_path, now, Limit(3, 800)) == 1 and not old.exists(), "four places, three may stay"
    assert sweep(tmp_path, now, Limit(3, 550)) == 1 and not small.exists() and making.exists(), "bytes count, too"
    assert sweep(tmp_path, now, Limit(1, 10)) == 0, "the newest can be fetched, whatever its size"
    assert sweep(tmp_path, now + 4000, Limit(1, 10)) == 1 and not making.exists(), "a dead worker's place goes in time"
    assert newest.exists() and PUBLIC_LIMIT.size_bytes < LIMIT.size_bytes and PUBLIC_LIMIT.places < LIMIT.places


def test_previews_on_a_public_host_do_not_fill_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PUBLIC_LIMIT", Limit(2, GiB))
    publisher = PublishService(Host(Store(tmp_path), public=True))
    previews = [publisher.prepare("sample").folder for _ in range(4)]
    assert [folder.exists() for folder in previews] == [False, True, True, True], "two, and the one just made"
